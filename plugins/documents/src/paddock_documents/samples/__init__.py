"""Small documents of many formats, written by hand: for the tests of whatever reads documents. No library is needed."""

from paddock_documents.samples.msg import msg
from paddock_documents.samples.office import docx, pptx, xlsx
from paddock_documents.samples.others import eml, epub, ods, odt, rtf
from paddock_documents.samples.pdf import circular_pdf, empty_pdf, encrypted_pdf, pdf, scanned_pdf
from paddock_documents.samples.zipped import archive

__all__ = [
    "archive",
    "circular_pdf",
    "docx",
    "eml",
    "empty_pdf",
    "encrypted_pdf",
    "epub",
    "msg",
    "ods",
    "odt",
    "pdf",
    "pptx",
    "rtf",
    "scanned_pdf",
    "xlsx",
]
