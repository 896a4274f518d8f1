# SPDX-License-Identifier: Apache-2.0
"""Penstock for Python. `penstock.step` reports what a pipeline step does; it needs nothing but Python."""
