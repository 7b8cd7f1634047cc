// Package modes decides in which mode a container gets its image: what the runtime handler's configuration allows, what
// the pod requests, and what the image can be given as.
//
// The configuration is a small TOML file (DefaultPath, see docs/modes.md). Whoever decides loads it anew for each
// container, so that a change takes effect without a restart; a file that is damaged is an error for every container,
// never a reason to go on with defaults. Hook and shim decide separately from the same three things and have to come
// to the same mode.
package modes
