"""The paper's protocol, and features embedded once."""
