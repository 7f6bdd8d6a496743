"""Ray Serve applications and the edge.

Ray reads most of its settings from the environment when it is first imported, so those that
the mesh needs are set here, before any module of this package can import it. What the
environment says already stays, but for the certificate of the mesh that runs in the home folder:
its cluster is reached with no other. In a process that imported Ray before, setting them would
only make parent and children disagree; there ``ray.init`` of a local cluster turns tokens on.
"""

import os
import sys

from recmesh.deployments.ray_tls import joining_variables
from recmesh.storage.home import Home

RAY_ENVIRONMENT = {
    # Whoever reaches an open Ray port may run code; the token lies in the home folder.
    "RAY_AUTH_MODE": "token",
    # Replicas serve requests; Ray would run them at the lowest priority.
    "RAY_worker_niceness": "0",
    # Serve hears of load at this interval; its default of 10 s scales too late.
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    # Serve looks after everything ten times a second by default, and counts as often, idle or
    # not: an eighth of a core for five replicas.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "2000",
    "RAY_SERVE_AUTOSCALING_METRIC_RECORD_INTERVAL_FACTOR": "1",
    # A call after ray.shutdown is an error; Ray would start a cluster of its own for it.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

if "ray" not in sys.modules:
    for _variable, _value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(_variable, _value)
    os.environ.update(joining_variables(Home.from_environment()))
