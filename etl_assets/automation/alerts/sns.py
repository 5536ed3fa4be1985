"""Delivery of messages to Amazon SNS."""

from typing import Any

import boto3
import dagster as dg
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from etl_assets.automation.alerts.state import LOGGER, Message


class SnsTopicResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """An SNS topic, to which the hooks send messages. Without an ARN they are only logged."""

    topic_arn: str = ""

    def publish(self, message: Message) -> None:
        """Log a message and publish it, with retries: it may arrive twice, but is not lost.

        Raises:
            ClientError, BotoCoreError: SNS does not accept it.
        """
        message.log()
        if self.topic_arn:
            _publish(_client(self.topic_arn, attempts=4), self.topic_arn, message)


def send(topic: str, messages: list[Message]) -> list[Message]:
    """Publish messages in order. Return those that are not sent: the first that SNS does not accept, and the rest."""
    # No client retries: a retry could publish a message twice. The next evaluation sends it again.
    sns = _client(topic, attempts=1)
    for index, message in enumerate(messages):
        try:
            _publish(sns, topic, message)
        except (BotoCoreError, ClientError) as error:
            LOGGER.error("SNS did not accept an alert; the next evaluation sends it again: %s", error)
            return messages[index:]
    return []


def _client(topic: str, attempts: int) -> Any:
    config = Config(connect_timeout=3, read_timeout=20, retries={"mode": "standard", "total_max_attempts": attempts})
    # arn:aws:sns:<region>:<account>:<name>
    return boto3.client("sns", region_name=topic.split(":")[3], config=config)


def _publish(sns: Any, topic: str, message: Message) -> None:
    sns.publish(
        TopicArn=topic,
        Subject=message.subject,
        Message=message.body,
        MessageAttributes={"json": {"DataType": "String", "StringValue": message.as_json}},
    )
