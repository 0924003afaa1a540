"""Moto's server of AWS Glue, which compares the version that an UpdateTable names, as Glue does and Moto does not.

usage: glue_server.py PORT
"""

import sys
import threading

from moto.core.exceptions import JsonRESTError
from moto.glue.responses import GlueResponse
from moto.server import main

one_at_a_time = threading.Lock()
update_whatever_version = GlueResponse.update_table


def update_table(self):
    with one_at_a_time:
        table = self.glue_backend.get_table(
            self.parameters["DatabaseName"], self.parameters["TableInput"]["Name"]
        )
        wanted = self.parameters.get("VersionId")
        if wanted is not None and wanted != table.as_dict()["VersionId"]:
            raise JsonRESTError("ConcurrentModificationException", "Update table failed due to concurrent modifications.")
        return update_whatever_version(self)


GlueResponse.update_table = update_table
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
