package store

import (
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// MaxPage bounds a page of a list.
const MaxPage = 200

// Position is a row's place in a list that has the newest first. The zero one is in front of all.
type Position struct {
	At time.Time
	ID string
}

// filter collects the conditions of a WHERE clause. It has only those that are asked for, so that the planner sees
// which index fits.
type filter struct {
	terms []string
	args  []any
}

// add takes a condition with $%d for each of its arguments.
func (f *filter) add(term string, args ...any) {
	numbers := make([]any, len(args))
	for i := range args {
		numbers[i] = len(f.args) + i + 1
	}
	f.terms = append(f.terms, fmt.Sprintf(term, numbers...))
	f.args = append(f.args, args...)
}

// match adds an equality if there is something to be equal to.
func (f *filter) match(column, value string) {
	if value != "" {
		f.add(column+" = $%d", value)
	}
}

// matchAny adds an equality with any of the values if there are some.
func (f *filter) matchAny(column string, values []string) {
	if len(values) > 0 {
		f.add(column+" = ANY ($%d)", values)
	}
}

// page adds what bounds a page of a list in the order of a time and an id.
func (f *filter) page(at, id string, p Page) {
	if !p.Since.IsZero() {
		f.add(at+" >= $%d", p.Since)
	}
	if !p.Until.IsZero() {
		f.add(at+" < $%d", p.Until)
	}
	if p.After != (Position{}) {
		f.add("("+at+", "+id+") < ($%d, $%d)", p.After.At, p.After.ID)
	}
}

// String returns the terms as one SQL condition.
func (f *filter) String() string { return strings.Join(f.terms, " AND ") }

// Page chooses a page of a list. Zero fields choose all.
type Page struct {
	// After is the last row of the page before.
	After Position
	// Since and Until bound the rows' times; Until is not in it.
	Since, Until time.Time
	// Limit of rows, at most MaxPage.
	Limit int
}

// rows is the limit for SQL: one row more tells whether there is another page. The statement has it as a literal, since
// a planner that does not know the limit assumes a tenth of the table.
func (p Page) rows() int { return p.limit() + 1 }

// limit returns the number of rows of the page: 1 to MaxPage.
func (p Page) limit() int {
	if p.Limit < 1 {
		return MaxPage
	}
	return min(p.Limit, MaxPage)
}

// cutPage takes off the row that is one too many, and tells whether there was one.
func cutPage[T any](list []T, p Page) ([]T, bool) {
	if len(list) <= p.limit() {
		return list, false
	}
	return list[:p.limit()], true
}

// collect reads the rows of a batch's statement into a list.
func collect[T any](list *[]T, scan pgx.RowToFunc[T]) func(pgx.Rows) error {
	return func(rows pgx.Rows) (err error) {
		*list, err = pgx.CollectRows(rows, scan)
		return err
	}
}
