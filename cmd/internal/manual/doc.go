// Package manual writes manual pages and shell completions of a cobra command: for the installation, at build time. The
// programs do not carry it; the build tag manual gives them the hidden command that does it ("make manual").
//
// Cobra has a generator of its own, which takes the texts for Markdown: it would lose the asterisks of "*.crt" and run
// tables into paragraphs. The texts of these commands are plain, and this package keeps what they show.
package manual
