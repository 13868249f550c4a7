"""The gateway under /v1: names to model servers, requests passed on as bytes."""

from paddock.services.gateway.service import GatewayService

__all__ = ["GatewayService"]
