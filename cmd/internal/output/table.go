package output

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/mattn/go-runewidth"
)

// gap is how many spaces stand between columns.
const gap = 2

// ellipsis stands for what was cut off.
const ellipsis = "…"

// Column is a column of a table.
type Column struct {
	Name  string
	Right bool // numbers stand below each other

	// Cut is to how many characters cells may be cut where the terminal is too narrow for the table; 0: never.
	Cut int
}

// Table is a block with a heading for each column.
type Table struct {
	Columns    []Column
	NoHeadings bool
	rows       [][]cell
}

// NewTable returns a table without rows. Names of columns are in capitals, as everywhere in this program.
func NewTable(columns ...Column) *Table { return &Table{Columns: columns} }

// Add adds a row, a value for each column.
func (t *Table) Add(values ...any) {
	row := make([]cell, len(t.Columns))
	for i := range min(len(row), len(values)) {
		row[i] = cellOf(values[i])
	}
	t.rows = append(t.rows, row)
}

func (t *Table) write(b *bytes.Buffer, s *Screen) {
	rows := t.rows
	if !t.NoHeadings {
		headings := make([]cell, len(t.Columns))
		for i, column := range t.Columns {
			headings[i] = cell{text: column.Name}
		}
		rows = append([][]cell{headings}, rows...)
	}
	widths := t.widths(rows, s.Width)
	for _, row := range rows {
		for i, c := range row {
			t.writeCell(b, s, c, i, widths[i])
		}
		trimLine(b)
		b.WriteByte('\n')
	}
}

func (t *Table) writeCell(b *bytes.Buffer, s *Screen, c cell, column, width int) {
	text := c.text
	if textWidth(text) > width {
		text = runewidth.Truncate(text, width, ellipsis)
	}
	pad := strings.Repeat(" ", width-textWidth(text))
	text = s.paint(c.style, text)
	if t.Columns[column].Right {
		text = pad + text
	} else {
		text += pad
	}
	if column < len(t.Columns)-1 {
		text += strings.Repeat(" ", gap)
	}
	b.WriteString(text)
}

// widths returns how wide each column is: as its widest cell, less where columns must be cut to fit into limit.
func (t *Table) widths(rows [][]cell, limit int) []int {
	widths := make([]int, len(t.Columns))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], textWidth(c.text))
		}
	}
	if limit == 0 {
		return widths
	}
	sum := gap * (len(widths) - 1)
	for _, w := range widths {
		sum += w
	}
	for ; sum > limit; sum-- {
		widest := -1
		for i, column := range t.Columns {
			least := max(column.Cut, textWidth(column.Name))
			if column.Cut > 0 && widths[i] > least && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break // lines will be longer than the terminal is wide
		}
		widths[widest]--
	}
	return widths
}

// cell is the text of a cell, without what terminals would take for orders.
type cell struct {
	text  string
	style style
}

func cellOf(v any) cell {
	if c, ok := v.(cell); ok {
		return c
	}
	return cell{text: Escape(fmt.Sprint(v))}
}

// Good paints a value green where there is colour.
func Good(v any) any { return painted(v, styleGood) }

// Bad paints a value red where there is colour.
func Bad(v any) any { return painted(v, styleBad) }

// Warn paints a value yellow where there is colour.
func Warn(v any) any { return painted(v, styleWarn) }

func painted(v any, s style) cell { return cell{text: Escape(fmt.Sprint(v)), style: s} }
