"""Amazon's services as moto plays them, with every signature checked."""

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

import httpx

from tests.servers.ports import HOST, free_port
from tests.servers.process import Server, require_program

_ANYTHING = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'


class MotoServer(Server):
    """S3 and IAM in memory. `access_key` and `secret_key` belong to a user who may do anything in S3, and nothing else."""

    name = "moto"
    start_timeout = 60.0

    access_key: str
    secret_key: str

    def __init__(self, port: int | None = None) -> None:
        super().__init__(port or free_port())
        self._moto = require_program("moto_server")

    def command(self) -> Sequence[str]:
        """Return moto's server on loopback."""
        return [self._moto, "-H", HOST, "-p", str(self.port)]

    def environment(self) -> Mapping[str, str]:
        """Let nobody look for a machine's own credentials."""
        return {"AWS_EC2_METADATA_DISABLED": "true"}

    def ready(self) -> None:
        """Make the user, then have signatures and policies checked."""
        self._iam(Action="CreateUser", UserName="hub")
        made = self._iam(Action="CreateAccessKey", UserName="hub")
        self._iam(Action="PutUserPolicy", UserName="hub", PolicyName="p", PolicyDocument=_ANYTHING)
        texts = {e.tag.rpartition("}")[2]: e.text or "" for e in made.iter()}
        self.access_key, self.secret_key = texts["AccessKeyId"], texts["SecretAccessKey"]
        url = f"http://{HOST}:{self.port}/moto-api/reset-auth"
        httpx.post(url, content=b"0", trust_env=False).raise_for_status()

    def _iam(self, **form: str) -> ET.Element:
        scope = "AWS4-HMAC-SHA256 Credential=AKIASTART/20260101/us-east-1/iam/aws4_request"
        answer = httpx.post(
            f"http://{HOST}:{self.port}/",
            data={**form, "Version": "2010-05-08"},
            headers={"authorization": f"{scope}, SignedHeaders=host, Signature=0"},
            trust_env=False,
            timeout=30,
        )
        return ET.fromstring(answer.raise_for_status().text)
