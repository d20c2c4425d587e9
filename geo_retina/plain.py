"""What cards and settings have in common."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Plain(BaseModel):
    """Plain data that refuses unknown keys and what is no finite number, and does not change."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False
    )
