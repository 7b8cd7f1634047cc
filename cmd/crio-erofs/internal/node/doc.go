// Package node has the commands that look at a node as a whole.
package node
