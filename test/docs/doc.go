// Package docs runs what the documentation says: every command of README.md, docs and contrib's README files, on a node of
// its own, with a registry, CRI-O and a store, and compares what is printed with what is shown. It also follows all links,
// and compares the list of settings with the code's.
//
// Blocks of commands begin with ```console or ```sh. In the former, lines after "$ " or "# " are commands and the others
// what these print; "..." stands for any text in a line, and for any lines if it is alone. What a command prints need not be
// shown. A command may only fail if it is shown what it prints. Blocks of a page run one after the other in one shell, at
// the top of a clone of the repository. A comment before a block that cannot run here says so:
//
//	<!-- not run: cluster: it labels a node -->
//
// The first word is one of notRun's.
package docs
