"""The bill of materials and the provenance of a bundle, held against their own schemas: papers_validate.py BUNDLE"""

import json
import sys
import tarfile

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from license_expression import get_spdx_licensing
from packageurl import PackageURL


def members(components):
    for component in components:
        yield component
        yield from members(component.get("components", []))


def main(bundle):
    with tarfile.open(bundle) as archive:
        bill = archive.extractfile("meta/sbom.cdx.json").read().decode()
        statement = json.load(archive.extractfile("meta/statement.json"))

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill)
    assert error is None, error
    known = get_spdx_licensing()
    purls = licences = 0
    for component in members(json.loads(bill)["components"]):
        if "purl" in component:
            # ECMA-427 encodes other separators than this library does.
            plain = [text.replace("%3A", ":").replace("%2F", "/")
                     for text in (component["purl"], PackageURL.from_string(component["purl"]).to_string())]
            assert plain[0] == plain[1], plain
            purls += 1
        for licence in component.get("licenses", []):
            if "expression" in licence:
                found = known.validate(licence["expression"], strict=True)
                assert not found.errors, (licence, found.errors)
                licences += 1
    assert purls and licences, (purls, licences)

    predicate = statement.pop("predicate")
    # Fields that the specifications do not know are errors here.
    json_format.ParseDict(statement, statement_pb2.Statement())
    provenance = json_format.ParseDict(predicate, provenance_pb2.Provenance())
    definition = provenance.build_definition
    assert definition.build_type and provenance.run_details.builder.id
    assert definition.resolved_dependencies
    for dependency in definition.resolved_dependencies:
        assert dependency.uri or dependency.name, dependency
        assert len(dependency.digest["sha256"]) == 64, dependency
    print(f"CycloneDX 1.6: valid, {purls} package URLs, {licences} SPDX expressions; "
          f"SLSA provenance 1: valid, {len(definition.resolved_dependencies)} dependencies")


main(sys.argv[1])
