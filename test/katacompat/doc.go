// Package katacompat lets Kata's own Go code judge what package kata writes and reads. It is a module of its own, so
// that Kata's dependencies stay out of the main one.
package katacompat
