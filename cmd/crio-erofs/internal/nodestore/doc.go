// Package nodestore reads a node's container storage beside a running CRI-O: images and containers as containers/storage
// records them, volumes as the driver does. It takes no lock, so that nobody waits for a pull: all records are files that
// are replaced whole.
package nodestore
