# SPDX-License-Identifier: MIT
"""Several hosts on one machine, and real certificate authorities to run on them."""
