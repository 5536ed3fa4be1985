"""Hooks that report the steps of your own jobs and assets to an SNS topic, in the form of the sensor's messages."""

from collections.abc import Callable

import dagster as dg

from etl_assets.automation.alerts.records import cause_of_step, events_of, job_of, run_details, title_of
from etl_assets.automation.alerts.state import CRITICAL, INFO, Message, MessageState, Problem, ProblemKey, ProblemKind

ALERTS_TOPIC = "alerts_topic"
"""The key of the resource with the platform's own topic."""


def sns_on_failure(topic: str = ALERTS_TOPIC) -> dg.HookDefinition:
    """Build a hook that reports each failed step, after its retries. `topic` is the key of an `SnsTopicResource`."""
    return _hook("sns_on_failure", dg.failure_hook, topic, MessageState.OPEN, CRITICAL)


def sns_on_success(topic: str = ALERTS_TOPIC) -> dg.HookDefinition:
    """Build a hook that reports each step that succeeds. `topic` is the key of an `SnsTopicResource`."""
    return _hook("sns_on_success", dg.success_hook, topic, MessageState.SUCCEEDED, INFO)


def _hook(
    name: str, decorate: Callable[..., Callable[..., dg.HookDefinition]], topic: str, state: MessageState, severity: str
) -> dg.HookDefinition:
    verb = "succeeded" if state == MessageState.SUCCEEDED else "failed"

    def report(context: dg.HookContext) -> None:
        step = context.step_key
        run = context.instance.get_run_by_id(context.run_id)
        assert run, "the run of a hook is stored"
        cause = ""
        if state == MessageState.OPEN:
            failures = events_of(context.instance, run.run_id, dg.DagsterEventType.STEP_FAILURE)
            cause = next((cause_of_step(event) for event in failures if event.step_key == step), "")
        problem = Problem(
            key=ProblemKey(ProblemKind.STEP, step),
            summary=f"{job_of(run)} {verb} at {title_of(step)}",
            details={"step": step, "cause": cause, **run_details(run)},
            severity=severity,
        )
        getattr(context.resources, topic).publish(Message(problem=problem, state=state))

    return decorate(name=f"{name}_{topic}", required_resource_keys={topic})(report)
