"""The sidecar that a team adds to its own workloads."""

import yaml

from manifests import BINARY, DEPLOY, assert_restricted, assert_valid, helm, kustomize, only, run



def test_the_example_is_valid_and_its_sidecar_restricted():
    manifests = kustomize(DEPLOY / "kustomize/example")
    assert_valid(manifests)
    pod = only(manifests, "Deployment")["spec"]["template"]["spec"]
    sidecar = only_sidecar(pod)
    assert_restricted({"containers": [sidecar]})
    # Kubernetes starts the app when it has succeeded.
    assert sidecar["restartPolicy"] == "Always" and "startupProbe" in sidecar
    # The chart counts what the settings, the same ones, may take.
    of_the_chart = only(helm(), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert sidecar["resources"]["limits"] == of_the_chart["resources"]["limits"]


def test_the_app_and_the_sidecar_meet(tmp_path):
    manifests = kustomize(DEPLOY / "kustomize/example")
    pod = only(manifests, "Deployment")["spec"]["template"]["spec"]
    maps = {each["metadata"]["name"]: each["data"] for each in manifests
            if each["kind"] == "ConfigMap"}
    env = {}
    for source in only_sidecar(pod)["envFrom"]:
        env |= maps[source["configMapRef"]["name"]]
    done = run(BINARY, "check", env=env)
    assert done.returncode == 0, done.stderr
    app = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    address = app["CELERY_BROKER_URL"].removeprefix("redis://").removesuffix("/0")
    assert f'listen = "{address}"' in done.stdout, done.stdout
    assert 'upstream = "redis://redis.default.svc:6379"' in done.stdout
    port = only_sidecar(pod)["ports"][0]["containerPort"]
    assert f'listen = "0.0.0.0:{port}"' in done.stdout


def test_it_comes_to_each_kind_of_workload_that_has_the_label_and_to_no_other(tmp_path):
    workloads = [
        workload("apps/v1", "Deployment", "web", {"tracehop": "sidecar"}),
        workload("apps/v1", "StatefulSet", "worker", {"tracehop": "sidecar"}),
        workload("batch/v1", "CronJob", "cron", {"tracehop": "sidecar"}),
        workload("apps/v1", "Deployment", "other", {}),
    ]
    (tmp_path / "workloads.yaml").write_text(yaml.safe_dump_all(workloads))
    # Kustomize takes no absolute path for a component.
    (tmp_path / "sidecar").symlink_to(DEPLOY / "kustomize/sidecar")
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({
        "resources": ["workloads.yaml"],
        "components": ["sidecar"],
        "configMapGenerator": [{"name": "tracehop-sidecar",
                                "literals": ["TRACEHOP_UPSTREAM=redis://r:6379"]}],
    }))
    manifests = kustomize(tmp_path)
    assert_valid(manifests)
    found = {each["metadata"]["name"]: len(pod_of(each).get("initContainers", []))
             for each in manifests if each["kind"] != "ConfigMap"}
    assert found == {"web": 1, "worker": 1, "cron": 1, "other": 0}


def only_sidecar(pod):
    (sidecar,) = [each for each in pod["initContainers"] if each["name"] == "tracehop"]
    return sidecar


def workload(version, kind, name, labels):
    pod = {"containers": [{"name": "app", "image": "app"}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template}
    if kind == "StatefulSet":
        spec["serviceName"] = name
    if kind == "CronJob":
        job = {"template": {"spec": pod | {"restartPolicy": "Never"}}}
        spec = {"schedule": "@daily", "jobTemplate": {"spec": job}}
    return {"apiVersion": version, "kind": kind,
            "metadata": {"name": name, "labels": labels}, "spec": spec}


def pod_of(manifest):
    spec = manifest["spec"]
    spec = spec["jobTemplate"]["spec"] if manifest["kind"] == "CronJob" else spec
    return spec["template"]["spec"]
