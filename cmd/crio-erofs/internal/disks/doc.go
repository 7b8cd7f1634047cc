// Package disks has the commands that make disks of images and volumes, and mount them.
package disks
