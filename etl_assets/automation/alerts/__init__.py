"""Alerts: one message when a problem opens, one when it is resolved; and hooks for your own jobs and assets."""

from etl_assets.automation.alerts.hooks import sns_on_failure, sns_on_success
from etl_assets.automation.alerts.sns import SnsTopicResource

__all__ = ["SnsTopicResource", "sns_on_failure", "sns_on_success"]
