// Package source opens images for measuring, from wherever containers/image can read them: registries, OCI layouts and
// archives, docker archives, directories and, on Linux, containers/storage.
package source
