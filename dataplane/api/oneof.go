package api

import "github.com/danielgtaylor/huma/v2"

// OneOf is a string of a closed set, for fields whose set stands elsewhere: a tag would have to repeat it.
type OneOf[S interface{ Values() []string }] string

// Schema implements huma.SchemaProvider.
func (OneOf[S]) Schema(huma.Registry) *huma.Schema {
	var set S
	schema := &huma.Schema{Type: huma.TypeString}
	for _, v := range set.Values() {
		schema.Enum = append(schema.Enum, v)
	}
	return schema
}
