package output

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Screen is what is known of where the output goes.
type Screen struct {
	Width  int  // in characters; 0: not a terminal, or one that does not say
	Colour bool // whether colours are seen as such
}

// ScreenOf looks at where w goes. Colour is for terminals only, and for none whose user has set NO_COLOR
// (https://no-color.org: present and not empty).
func ScreenOf(w io.Writer) *Screen {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &Screen{}
	}
	s := &Screen{Colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		s.Width = width
	}
	return s
}

// style is how a value is painted: a parameter of ECMA-48's SGR.
type style string

const (
	styleGood style = "32"
	styleBad  style = "31"
	styleWarn style = "33"
)

func (s *Screen) paint(style style, text string) string {
	if !s.Colour || style == "" || text == "" {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}
