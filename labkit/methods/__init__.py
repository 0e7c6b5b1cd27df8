"""What every few-shot method is (`base`), the backbones, and one file for each system that DMF is compared with."""
