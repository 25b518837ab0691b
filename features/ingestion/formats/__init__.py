"""The source formats: delimited text (`csv`), JSON (`jsonl`) and Parquet.

To add a format, write its class in a module beside this one (base.py says what it is), name it in
FORMATS, and name it in the YAML's schema (`FileTable.format`).
"""

from contracts.config.source import FileTable
from features.ingestion.formats.base import Format
from features.ingestion.formats.delimited import Delimited
from features.ingestion.formats.json_lines import JsonLines
from features.ingestion.formats.parquet import Parquet

FORMATS: dict[str, type[Format]] = {"jsonl": JsonLines, "csv": Delimited, "parquet": Parquet}


def format_of(table: FileTable) -> Format:
    """The format of a section of the YAML."""
    return FORMATS[table.format](table)
