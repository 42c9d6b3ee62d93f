"""Validates the description of the API, and its examples against their schemas. See `run`."""

import json
import sys

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator


def main(path):
    with open(path, encoding="utf-8") as file:
        description = json.load(file)
    assert description["openapi"].startswith("3.1."), description["openapi"]
    faults = [f"{list(it.absolute_path)}: {it.message}" for it in OpenAPIV31SpecValidator(description).iter_errors()]
    schemas, tried = description["components"]["schemas"], 0
    for name, schema in schemas.items():
        for example in schema.get("examples", []):
            tried += 1
            whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
            validator = Draft202012Validator(whole, format_checker=FormatChecker())
            faults += [f"example of {name}: {it.message}" for it in validator.iter_errors(example)]
    if tried < 10:
        faults.append(f"only {tried} schemas have examples")
    sys.exit("\n".join(faults) or None)


main(sys.argv[1])
