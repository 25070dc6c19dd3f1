# Holds docs/openapi.yaml against what was asked and answered: each question and answer is documented, and each
# documented answer was seen.
import json, sys
from urllib.parse import parse_qsl, urlsplit
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

spec = yaml.safe_load(open(sys.argv[1]))
validate(spec)
registry = Registry().with_resource("urn:paidup", Resource(contents=spec, specification=DRAFT202012))
problems = []

def pointer(path):
    node = spec
    for part in path.split("/")[1:]:
        node = node[part.replace("~1", "/").replace("~0", "~")]
    return node

def check(path, body, what):
    validator = Draft202012Validator({"$ref": "urn:paidup#" + path}, registry=registry)
    problems.extend(f"{what}: {list(e.absolute_path)} {e.message}" for e in validator.iter_errors(body))

def escaped(path):
    return path.replace("~", "~0").replace("/", "~1")

def check_question(question):
    target = urlsplit(question["target"])
    what = f"{question['method']} {question['target']}"
    place = f"/paths/{escaped(target.path)}/{question['method'].lower()}"
    try:
        operation = pointer(place)
    except KeyError:
        problems.append(f"{what} is not documented")
        return
    query = dict(parse_qsl(target.query))
    for number, parameter in enumerate(operation.get("parameters", [])):
        if parameter["in"] == "query" and parameter["name"] in query:
            value = query.pop(parameter["name"])
            value = int(value) if parameter["schema"].get("type") == "integer" else value
            check(f"{place}/parameters/{number}/schema", value, what)
    problems.extend(f"{what}: {name} is not documented" for name in query)

seen = set()
for line in sys.stdin:
    answer = json.loads(line)
    if answer["kind"] == "message":
        path = "/webhooks/order.changed/post/requestBody/content/application~1json/schema"
        check(path, answer["body"], "order.changed")
        seen.add("order.changed")
        continue
    if answer["kind"] == "question":
        check_question(answer)
        continue
    method, route, status = answer["method"].lower(), answer["route"], str(answer["status"])
    what = f"{method} {route} {status}"
    response = f"/paths/{escaped(route)}/{method}/responses/{status}"
    try:
        found = pointer(response)
    except KeyError:
        problems.append(f"{what} is not documented: {answer['body']}")
        continue
    if "$ref" in found:
        response = found["$ref"][1:]
        found = pointer(response)
    seen.add(what)
    if "application/json" in found["content"]:
        check(f"{response}/content/application~1json/schema", json.loads(answer["body"]), what)

documented = {"order.changed"}
for route, operations in spec["paths"].items():
    for method, operation in operations.items():
        documented |= {f"{method} {route} {status}" for status in operation["responses"]}
problems.extend(f"{what} was never seen" for what in sorted(documented - seen))
print(json.dumps({"problems": problems, "seen": sorted(seen)}))
