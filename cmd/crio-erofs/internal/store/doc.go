// Package store has the commands for a node's store. There is none but on Linux.
package store
