"""`python -m topeng`, for launchers that take a module."""

from topeng.cli import main

raise SystemExit(main())
