"""Tests of BitNexus."""
