package manual

import (
	"fmt"
	"regexp"
	"strings"
)

// escaper makes text literal in roff (groff_char(7)): a plain hyphen, quote or caret may be shown as another character,
// which could not be copied into a shell.
var escaper = strings.NewReplacer(`\`, `\(rs`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

// literal escapes a text, which may begin a line: a dot there would be a request.
func literal(text string) string {
	text = escaper.Replace(text)
	if strings.HasPrefix(text, ".") {
		return `\&` + text
	}
	return text
}

func bold(text string) string { return `\fB` + literal(text) + `\fR` }

// page is a manual page under construction.
type page struct {
	strings.Builder
	fresh bool // a section has just begun
}

func (p *page) line(format string, args ...any) {
	fmt.Fprintf(p, format+"\n", args...)
	p.fresh = false
}

func (p *page) newParagraph() {
	if !p.fresh {
		p.line(".PP")
	}
}

// section begins a section; its first paragraph needs no request.
func (p *page) section(title string) {
	p.line(`.SH "%s"`, literal(title))
	p.fresh = true
}

// item adds an entry of a list; both texts are roff.
func (p *page) item(term, description string) { p.line(".TP\n%s\n%s", term, description) }

// verbatim adds lines as they are.
func (p *page) verbatim(lines []string) {
	p.newParagraph()
	p.line(".RS 4\n.nf")
	for _, l := range lines {
		p.line("%s", literal(l))
	}
	p.line(".fi\n.RE")
}

var (
	heading = regexp.MustCompile(`^[A-Z][A-Z ]+$`)
	term    = regexp.MustCompile(`^  (\S.*?)(?:  +|\n *)(\S.*)$`)
)

// text adds a command's description: paragraphs, blocks of lines that are indented, and sections whose titles are
// lines of capitals.
func (p *page) text(text string) {
	if text == "" {
		return
	}
	for block := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		lines := strings.Split(strings.Trim(block, "\n"), "\n")
		if heading.MatchString(lines[0]) {
			p.section(lines[0])
			lines = lines[1:]
		}
		for len(lines) > 0 {
			n := 1
			for n < len(lines) && indented(lines[n]) == indented(lines[0]) {
				n++
			}
			if indented(lines[0]) {
				p.indentedBlock(lines[:n])
			} else {
				p.paragraph(lines[:n])
			}
			lines = lines[n:]
		}
	}
}

func indented(line string) bool { return strings.HasPrefix(line, "  ") }

func (p *page) paragraph(lines []string) {
	p.newParagraph()
	for _, l := range lines {
		p.line("%s", literal(strings.TrimSpace(l)))
	}
}

// indentedBlock adds a list if every line is a term and its description, or the rest of the description above; else
// the lines as they are.
func (p *page) indentedBlock(lines []string) {
	var items [][2]string
	for _, l := range lines {
		if m := term.FindStringSubmatch(l); m != nil {
			items = append(items, [2]string{m[1], m[2]})
		} else if last := len(items) - 1; last >= 0 && strings.HasPrefix(l, "    ") {
			items[last][1] += " " + strings.TrimSpace(l)
		} else {
			p.verbatim(trimIndent(lines))
			return
		}
	}
	for _, item := range items {
		p.item(bold(item[0]), literal(item[1]))
	}
}

func trimIndent(lines []string) []string {
	trimmed := make([]string, len(lines))
	for i, l := range lines {
		trimmed[i] = strings.TrimPrefix(l, "  ")
	}
	return trimmed
}
