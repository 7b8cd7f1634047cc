package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Source says where a page is from.
type Source struct {
	Section string // of the manual: "1" for commands of all users, "8" for those of administrators
	Date    string // of the release, YYYY-MM-DD
	Version string
	SeeAlso []string // pages of other programs, such as "crio(8)"
}

// Pages returns the manual pages of a command and all below it, by file name.
func Pages(root *cobra.Command, source Source) map[string]string {
	pages := map[string]string{}
	var add func(*cobra.Command)
	add = func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		pages[pageName(cmd)+"."+source.Section] = render(cmd, source)
		for _, sub := range documented(cmd) {
			add(sub)
		}
	}
	add(root)
	return pages
}

// documented returns the commands below cmd that have pages. Cobra's completion command tells of all shells in one.
func documented(cmd *cobra.Command) []*cobra.Command {
	if cmd.Name() == "completion" {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(cmd.Commands()), func(c *cobra.Command) bool {
		return !c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand()
	})
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// reference names a page as manual pages do.
func reference(cmd *cobra.Command, source Source) string {
	return bold(pageName(cmd)) + "(" + source.Section + ")"
}

func render(cmd *cobra.Command, source Source) string {
	p := &page{}
	p.line(`.TH "%s" "%s" "%s" "%s" "crio\-erofs"`, literal(strings.ToUpper(pageName(cmd))), source.Section,
		source.Date, literal("crio-erofs "+source.Version))
	p.line(".nh\n.ad l") // no hyphens in names, no stretched lines
	p.section("NAME")
	p.line(`%s \- %s`, literal(pageName(cmd)), literal(lowerFirst(cmd.Short)))
	p.section("SYNOPSIS")
	p.line("%s%s", bold(cmd.CommandPath()), literal(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath())))
	if cmd.HasAvailableSubCommands() {
		p.line(".br\n%s %s", bold(cmd.CommandPath()), literal("COMMAND [flags]"))
	}
	description, sections := splitSections(cmd.Long)
	p.section("DESCRIPTION")
	if description == "" {
		description = cmd.Short + "."
	}
	p.text(description)
	p.commands(cmd, source)
	p.options("OPTIONS", cmd.NonInheritedFlags())
	p.options("OPTIONS OF ALL COMMANDS", cmd.InheritedFlags())
	p.text(sections)
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.verbatim(trimIndent(strings.Split(strings.Trim(cmd.Example, "\n"), "\n")))
	}
	p.seeAlso(cmd, source)
	return p.String()
}

// splitSections cuts a description where its first own section begins: sections come after the options.
func splitSections(text string) (description, sections string) {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if heading.MatchString(l) {
			return strings.Join(lines[:i], "\n"), strings.Join(lines[i:], "\n")
		}
	}
	return text, ""
}

func (p *page) commands(cmd *cobra.Command, source Source) {
	subs := documented(cmd)
	if len(subs) == 0 {
		return
	}
	p.section("COMMANDS")
	groups := append(slices.Clone(cmd.Groups()), &cobra.Group{}) // the last one is of those that are in none
	for _, group := range groups {
		if group.Title != "" {
			p.line(`.SS "%s"`, literal(strings.TrimSuffix(group.Title, ":")))
		}
		for _, sub := range subs {
			if sub.GroupID == group.ID {
				p.item(reference(sub, source), literal(sub.Short))
			}
		}
	}
}

func (p *page) options(title string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	p.section(title)
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			p.item(flagTerm(f), literal(flagText(f)))
		}
	})
}

// flagTerm returns "-f, --flag VALUE".
func flagTerm(f *pflag.Flag) string {
	s := ""
	if f.Shorthand != "" {
		s = bold("-"+f.Shorthand) + ", "
	}
	s += bold("--" + f.Name)
	if name, _ := pflag.UnquoteUsage(f); name != "" {
		s += ` \fI` + literal(name) + `\fR`
	}
	return s
}

// flagText returns what a flag does and its default, as --help shows both.
func flagText(f *pflag.Flag) string {
	_, usage := pflag.UnquoteUsage(f)
	switch f.DefValue {
	case "", "false", "0", "0s", "[]", "<nil>":
		return usage
	}
	if strings.Contains(usage, "(default") {
		return usage
	}
	return fmt.Sprintf("%s (default %s)", usage, f.DefValue)
}

func (p *page) seeAlso(cmd *cobra.Command, source Source) {
	var refs []string
	if cmd.HasParent() {
		refs = append(refs, reference(cmd.Parent(), source))
	}
	for _, other := range source.SeeAlso {
		name, section, _ := strings.Cut(other, "(")
		refs = append(refs, bold(name)+"("+section)
	}
	if len(refs) > 0 {
		p.section("SEE ALSO")
		p.line("%s", strings.Join(refs, ",\n"))
	}
}

// lowerFirst makes the description of a NAME section out of a short help text.
func lowerFirst(s string) string {
	s = strings.TrimSuffix(s, ".")
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}

// Completions writes the completions of a command for bash, zsh and fish to directories of these names.
func Completions(root *cobra.Command, dir string) error {
	name := root.Name()
	for path, generate := range map[string]func(string) error{
		"bash/" + name:           func(f string) error { return root.GenBashCompletionFileV2(f, true) },
		"zsh/_" + name:           root.GenZshCompletionFile,
		"fish/" + name + ".fish": func(f string) error { return root.GenFishCompletionFile(f, true) },
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := generate(path); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return nil
}

// NewCommand returns the hidden command "manual DIR", which writes the pages of the program to DIR/man/man<section> and
// the completions to DIR/completions.
func NewCommand(source Source) *cobra.Command {
	cmd := &cobra.Command{
		Use: "manual DIR", Short: "Write the manual pages and the completions to a directory", Hidden: true,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := filepath.Join(args[0], "man", "man"+source.Section)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			for name, content := range Pages(cmd.Root(), source) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
					return err
				}
			}
			return Completions(cmd.Root(), filepath.Join(args[0], "completions"))
		},
	}
	cmd.Flags().StringVar(&source.Date, "date", "", "date of the release")
	return cmd
}
