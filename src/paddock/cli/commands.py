"""The commands that talk to a running server."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paddock.cli.client import Client, named, project_names, project_path
from paddock.cli.flows import answer_pieces, follow_task, report_task, show_sources
from paddock.cli.show import Screen
from paddock.errors import ValidationFailed
from paddock.logs import clean

Groups = Any  # argparse's subparsers action is private
Run = Callable[[argparse.Namespace, Screen, Client], int | None]


def add(groups: Groups, shared: argparse.ArgumentParser) -> None:
    """Add every command."""
    for declare in (_projects, _datasets, _rag, _chat, _tasks, _examples, _events, _plugins):
        declare(groups, shared)


def command(verbs: Groups, shared: argparse.ArgumentParser, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    """Add a command that talks to a running server."""
    made: argparse.ArgumentParser = verbs.add_parser(name, parents=[shared], help=text, description=text)
    made.set_defaults(run=run, needs_server=True)
    return made


def group(groups: Groups, name: str, text: str) -> Groups:
    """Add a group of commands; returns where its verbs are added."""
    return groups.add_parser(name, help=text, description=text).add_subparsers(
        dest="verb", required=True, metavar="VERB"
    )


def _projects(groups: Groups, shared: argparse.ArgumentParser) -> None:
    verbs = group(groups, "projects", "list, create, show and delete projects")
    command(verbs, shared, "list", projects_list, "list the projects of a namespace").add_argument("namespace")
    create = command(verbs, shared, "create", projects_create, "create a project from a template")
    create.add_argument("project", metavar="NAMESPACE/PROJECT")
    create.add_argument("--template", help="default, rag, server, or one of your own")
    for name, run, text in (
        ("show", projects_show, "print a project's configuration"),
        ("models", projects_models, "list a project's models"),
        ("delete", projects_delete, "delete a project with its data"),
    ):
        command(verbs, shared, name, run, text).add_argument("project", metavar="NAMESPACE/PROJECT")


def projects_list(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print a namespace's projects."""
    found = client.ask("GET", f"/v1/projects/{named(options.namespace)}")
    rows = [(item["name"], item["last_modified"], item["validation_error"] or "ok") for item in found["projects"]]
    screen.table(("project", "modified", "state"), rows, found)


def projects_create(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Create a project."""
    namespace, name = project_names(options.project)
    body = {"name": name, "config_template": options.template}
    found = client.ask("POST", f"/v1/projects/{named(namespace)}", {key: value for key, value in body.items() if value})
    if screen.as_json:
        screen.data(found)
    screen.say(f"Created {options.project}. Next: paddock datasets create {options.project} docs")


def projects_show(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print a project."""
    screen.data(client.ask("GET", project_path(options.project))["project"])


def projects_models(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print a project's models."""
    found = client.ask("GET", project_path(options.project, "models"))
    rows = [(item["name"], item["provider"], item["model"], "*" if item["default"] else "") for item in found["models"]]
    screen.table(("name", "provider", "model", "default"), rows, found)


def projects_delete(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Delete a project."""
    found = client.ask("DELETE", project_path(options.project))
    if screen.as_json:
        screen.data(found)
    screen.say(f"Deleted {options.project} with its data.")


def _datasets(groups: Groups, shared: argparse.ArgumentParser) -> None:
    verbs = group(groups, "datasets", "list, create, fill, process and delete datasets")
    listing = command(verbs, shared, "list", datasets_list, "list a project's datasets")
    listing.add_argument("project", metavar="NAMESPACE/PROJECT")
    create = command(verbs, shared, "create", datasets_create, "create a dataset")
    upload = command(verbs, shared, "upload", datasets_upload, "upload files, and process them")
    process = command(verbs, shared, "process", datasets_process, "process what is not processed yet")
    delete = command(verbs, shared, "delete", datasets_delete, "delete a dataset with its chunks")
    for made in (create, upload, process, delete):
        made.add_argument("project", metavar="NAMESPACE/PROJECT")
        made.add_argument("dataset")
    create.add_argument("--database", help="the project's default database unless given")
    create.add_argument("--strategy", help="the data processing strategy; the first of the project unless given")
    upload.add_argument("files", nargs="+", type=Path)
    upload.add_argument("--no-process", action="store_true", help="only store the files")


def datasets_list(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print a project's datasets."""
    found = client.ask("GET", project_path(options.project, "datasets"))
    rows = [
        (item["name"], item["database"], item["data_processing_strategy"], len(item["files"]))
        for item in found["datasets"]
    ]
    screen.table(("dataset", "database", "strategy", "files"), rows, found)


def datasets_create(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Create a dataset."""
    known = client.ask("GET", project_path(options.project, "datasets/strategies"))
    database = options.database or next(iter(known["databases"]), None)
    strategy = options.strategy or next(iter(known["data_processing_strategies"]), None)
    if database is None:
        raise ValidationFailed(f"{options.project} has no database: add one under rag.databases in its llamafarm.yaml")
    body = {"name": options.dataset, "database": database, "data_processing_strategy": strategy}
    found = client.ask("POST", project_path(options.project, "datasets"), body)
    if screen.as_json:
        screen.data(found)
    screen.say(f"Created {options.dataset}. Next: paddock datasets upload {options.project} {options.dataset} FILES …")


def datasets_upload(options: argparse.Namespace, screen: Screen, client: Client) -> int:
    """Upload files and process them."""
    missing = [str(file) for file in options.files if not file.is_file()]
    if missing:
        raise ValidationFailed(f"no such file: {', '.join(missing)}")
    path = project_path(options.project, "datasets", options.dataset, "data")
    replies = []
    with screen.progress() as bars:
        for file in options.files:
            bar = bars.add_task(clean(file.name), total=max(1, file.stat().st_size))
            replies.append(client.upload(path, file, lambda size, bar=bar: bars.advance(bar, size)))  # type: ignore[misc]  # mypy infers no type for a default
            bars.update(bar, completed=max(1, file.stat().st_size))
    skipped = sum(bool(reply.get("skipped")) for reply in replies)
    screen.say(f"{len(replies) - skipped} stored, {skipped} were there already.")
    if options.no_process:
        if screen.as_json:
            screen.data(replies)
        return 0
    return datasets_process(options, screen, client)


def datasets_process(options: argparse.Namespace, screen: Screen, client: Client) -> int:
    """Process a dataset and show its progress."""
    path = project_path(options.project, "datasets", options.dataset, "actions")
    task_id = client.ask("POST", path, {"action_type": "process"})["task_id"]
    return _followed(options.project, task_id, screen, client)


def _followed(project: str, task_id: str, screen: Screen, client: Client) -> int:
    task = follow_task(client, screen, project, task_id)
    if screen.as_json:
        screen.data(task)
    return 0 if task["state"] == "SUCCESS" else 1


def datasets_delete(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Delete a dataset."""
    found = client.ask("DELETE", project_path(options.project, "datasets", options.dataset))
    if screen.as_json:
        screen.data(found)
    screen.say(f"Deleted {options.dataset} with its chunks.")


def _rag(groups: Groups, shared: argparse.ArgumentParser) -> None:
    verbs = group(groups, "rag", "query and inspect databases")
    query = command(verbs, shared, "query", rag_query, "find the chunks that answer a question")
    for name, text in (("stats", "count what a database holds"), ("health", "look whether a database works")):
        made = command(verbs, shared, name, _rag_show(name), text)
        made.add_argument("project", metavar="NAMESPACE/PROJECT")
        made.add_argument("--database")
    documents = command(verbs, shared, "documents", rag_documents, "list the files in a database")
    query.add_argument("project", metavar="NAMESPACE/PROJECT")
    query.add_argument("question")
    query.add_argument("--top-k", type=int, default=5)
    query.add_argument("--strategy")
    query.add_argument("--database")
    documents.add_argument("project", metavar="NAMESPACE/PROJECT")
    documents.add_argument("database")
    documents.add_argument("--limit", type=int, default=50)


def rag_query(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print what a query finds."""
    body: dict[str, Any] = {"query": options.question, "top_k": options.top_k}
    body |= {"database": options.database, "retrieval_strategy": options.strategy}
    found = client.ask("POST", project_path(options.project, "rag/query"), body)
    rows = [
        (f"{item['score']:.3f}", item["metadata"].get("filename"), item["metadata"].get("page"), item["content"][:300])
        for item in found["results"]
    ]
    screen.table(("score", "file", "page", "text"), rows, found)
    screen.say(f"{found['retrieval_strategy_used']} on {found['database_used']}: {found['processing_time_ms']:.1f} ms")


def _rag_show(name: str) -> Run:
    def run(options: argparse.Namespace, screen: Screen, client: Client) -> None:
        screen.data(
            client.ask("GET", project_path(options.project, f"rag/{name}"), query={"database": options.database})
        )

    return run


def rag_documents(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print a database's files."""
    path = project_path(options.project, "rag/databases", options.database, "documents")
    found = client.ask("GET", path, query={"limit": options.limit})
    rows = [(item["filename"], item["chunk_count"], item["size_bytes"], item["parser_used"]) for item in found]
    screen.table(("file", "chunks", "bytes", "parser"), rows, found)


def _chat(groups: Groups, shared: argparse.ArgumentParser) -> None:
    chat = command(groups, shared, "chat", chat_ask, "ask a project a question")
    chat.add_argument("project", metavar="NAMESPACE/PROJECT")
    chat.add_argument("message")
    chat.add_argument("--model", help="one of the project's models")
    chat.add_argument("--no-rag", action="store_true", help="without retrieval")


def chat_ask(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Ask, and print the answer as it comes, with its sources."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": options.message}], "include_sources": True}
    if options.model:
        body["model"] = options.model
    if options.no_rag:
        body["rag_enabled"] = False
    path = project_path(options.project, "chat/completions")
    if screen.as_json:
        screen.data(client.ask("POST", path, body))
        return
    found: dict[str, Any] = {}
    for piece in answer_pieces(client.events("POST", path, {**body, "stream": True}), found):
        screen.raw(piece)
    screen.raw("\n")
    show_sources(screen, found.get("sources", []))


def _tasks(groups: Groups, shared: argparse.ArgumentParser) -> None:
    verbs = group(groups, "tasks", "list, show, follow and cancel tasks")
    listing = command(verbs, shared, "list", tasks_list, "list a project's tasks, the newest first")
    listing.add_argument("project", metavar="NAMESPACE/PROJECT")
    listing.add_argument("--active", action="store_true", help="only those that are not finished")
    for name, run, text in (
        ("show", tasks_show, "print a task"),
        ("follow", tasks_follow, "show a task's progress until it ends"),
        ("cancel", tasks_cancel, "cancel a task and revert what it stored"),
    ):
        made = command(verbs, shared, name, run, text)
        made.add_argument("project", metavar="NAMESPACE/PROJECT")
        made.add_argument("task_id")


def tasks_list(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print a project's tasks."""
    query = {"active": "true"} if options.active else None
    found = client.ask("GET", project_path(options.project, "tasks"), query=query)
    rows = [
        (item["task_id"], item["kind"], item["dataset"], item["state"], f"{item['current']}/{item['total']}")
        for item in found["tasks"]
    ]
    screen.table(("task", "kind", "dataset", "state", "files"), rows, found, whole="task")


def tasks_show(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print a task."""
    task = client.ask("GET", project_path(options.project, "tasks", options.task_id))
    if screen.as_json:
        screen.data(task)
    else:
        report_task(screen, task)


def tasks_follow(options: argparse.Namespace, screen: Screen, client: Client) -> int:
    """Follow a task."""
    return _followed(options.project, options.task_id, screen, client)


def tasks_cancel(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Cancel a task."""
    found = client.ask("DELETE", project_path(options.project, "tasks", options.task_id))
    if screen.as_json:
        screen.data(found)
    screen.say(found["message"])


def _examples(groups: Groups, shared: argparse.ArgumentParser) -> None:
    verbs = group(groups, "examples", "list and import example projects")
    command(verbs, shared, "list", examples_list, "list the examples")
    made = command(verbs, shared, "import", examples_import, "import an example as a new project")
    made.add_argument("example")
    made.add_argument("project", metavar="NAMESPACE/PROJECT")


def examples_list(options: argparse.Namespace, screen: Screen, client: Client) -> None:  # noqa: ARG001  all commands alike
    """Print the examples."""
    found = client.ask("GET", "/v1/examples")
    screen.table(("example", "title"), [(item["id"], item["title"]) for item in found["examples"]], found)


def examples_import(options: argparse.Namespace, screen: Screen, client: Client) -> int:
    """Import an example and follow its processing."""
    namespace, name = project_names(options.project)
    body = {"namespace": namespace, "name": name, "process": True}
    found = client.ask("POST", f"/v1/examples/{named(options.example)}/import-project", body)
    tasks = [follow_task(client, screen, options.project, task_id) for task_id in found["task_ids"]]
    if screen.as_json:
        screen.data({**found, "tasks": tasks})
    screen.say(f'Next: paddock chat {options.project} "your question"')
    return 0 if all(task["state"] == "SUCCESS" for task in tasks) else 1


def _events(groups: Groups, shared: argparse.ArgumentParser) -> None:
    made = command(groups, shared, "events", events_list, "list what happened in a project")
    made.add_argument("project", metavar="NAMESPACE/PROJECT")
    made.add_argument("--type")
    made.add_argument("--limit", type=int, default=20)


def events_list(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print a project's events."""
    path = project_path(options.project, "event_logs")
    found = client.ask("GET", path, query={"type": options.type, "limit": options.limit})
    rows = [(item["timestamp"], item["type"], item.get("status"), item.get("duration_ms")) for item in found["events"]]
    screen.table(("time", "type", "status", "ms"), rows, found)


def _plugins(groups: Groups, shared: argparse.ArgumentParser) -> None:
    command(groups, shared, "plugins", plugins_list, "show the plugins of a running server and their health")


def plugins_list(options: argparse.Namespace, screen: Screen, client: Client) -> None:  # noqa: ARG001  all commands alike
    """Print the plugins, what each provides, and how its providers are."""
    found = client.ask("GET", "/v1/system/plugins")
    rows: list[tuple[object, ...]] = []
    for item in found["plugins"]:
        looks = {name: look for name, look in item["health"].items() if look["status"] != "healthy"}
        state = item["error"] or ("; ".join(f"{name}: {look['message']}" for name, look in looks.items()) or "healthy")
        rows.append((item["name"], item["version"], "", state))
        rows += [("", "", kind, ", ".join(names)) for kind, names in item["provides"].items()]
    screen.table(("plugin", "version", "provides", "type names, state"), rows, found)
