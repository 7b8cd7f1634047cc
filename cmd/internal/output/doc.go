// Package output prints what a command has found: for people as tables that fit their terminal, for machines as JSON,
// and through Go templates as podman's --format has them.
//
// A command has one value, exported fields and JSON tags included, and for people one or more blocks (Table, Fields,
// Text) made of it:
//
//	var format output.Format
//	output.AddFlag(cmd, &format, Row{})
//	…
//	return format.Print(cmd.OutOrStdout(), rows, table(rows))
//
// Column and field names are part of the command's interface. Nothing is cut off where the output is not a terminal.
package output
