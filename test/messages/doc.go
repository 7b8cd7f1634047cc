// Package messages keeps docs/troubleshooting.md in step with what the programs say.
package messages
