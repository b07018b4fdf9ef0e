"""A JVM of Spark's behind py4j, at work in a server's folder: its start, its user, its end, and what it downloads.

A user id without a name in /etc/passwd, as in containers, is told to Java and Hadoop, which ask for one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.conf import SparkConf
from pyspark.java_gateway import launch_gateway

from steps.core.process import processes
from steps.core.spark import jvm
from steps.core.spark.jars import JarSet


def launch(settings: Mapping[str, str], folder: Path) -> Any:  # py4j has no types
    """Start a JVM with Spark's settings, whose log is in its folder."""
    conf = SparkConf(loadDefaults=False).setAll(list(settings.items()))
    with (folder / jvm.LOG).open("wb") as log:
        return launch_gateway(conf, {"stdout": log, "stderr": log, "cwd": folder})


def end(gateway: Any, *, at_once: bool = True) -> None:
    """End the JVM, which does so by itself too when its standard input closes, and wait for that."""
    gateway.shutdown()
    if at_once:
        gateway.proc.kill()
    gateway.proc.stdin.close()
    gateway.proc.wait()


def user_options() -> list[str]:
    """Java's options for this user: it does not look at HOME."""
    return [f'-Duser.home="{Path.home()}"'] if processes.is_nameless() else []


def name_user(gateway: Any) -> None:
    """Tell Hadoop who works here, before Spark starts: its own login fails for a user without a name."""
    if processes.is_nameless():
        users = gateway.jvm.org.apache.hadoop.security.UserGroupInformation
        users.setLoginUser(users.createRemoteUser(processes.user()))


def download(jar_set: JarSet, folder: Path) -> list[Path]:
    """The jars of a set, by a JVM of their own: Spark's launcher would look at them by Hadoop, which logs in first."""
    gateway = launch({"spark.driver.extraJavaOptions": " ".join(user_options())}, folder)
    try:
        gateway.jvm.org.apache.spark.util.DependencyUtils.resolveMavenDependencies(
            True,  # with what they depend on
            jar_set.excludes,
            jar_set.packages,
            "",  # from Maven Central alone
            str(jar_set.folder),
            gateway.jvm.scala.Option.empty(),
        )
        jar_set.mark_downloaded()
        return jar_set.downloaded()
    finally:
        end(gateway)
