"""What cards and settings have in common."""

from pydantic import BaseModel, ConfigDict


class Plain(BaseModel):
    """Plain data that refuses unknown keys and what is no finite number, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
