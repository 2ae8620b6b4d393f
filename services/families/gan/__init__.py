"""Class-conditional GANs (Goodfellow 2014, arXiv:1406.2661; Miyato 2018, arXiv:1802.05637)."""
