package store

import (
	"fmt"
	"strings"
)

// argument is an argument of a function of the schema.
type argument struct {
	name  string
	value any
}

// arguments are passed by their names, so that their order does not matter.
type arguments []argument

// call returns the statement that calls a function with arguments.
func call(function string, args arguments) string {
	named := make([]string, len(args))
	for i, a := range args {
		named[i] = fmt.Sprintf("%s => $%d", a.name, i+1)
	}
	return fmt.Sprintf("SELECT %s(%s)", function, strings.Join(named, ", "))
}

// values returns the parameters of the statement.
func (args arguments) values() []any {
	values := make([]any, len(args))
	for i := range args {
		values[i] = args[i].value
	}
	return values
}
