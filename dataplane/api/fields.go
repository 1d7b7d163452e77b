package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// maxShown bounds how deep the page follows schemas, which may be recursive.
const maxShown = 4

// fields flattens the members of a schema: calls[].sid.
func (a *API) fields(prefix string, media *huma.MediaType, depth int) []fieldView {
	if media == nil {
		return nil
	}
	return a.members(prefix, media.Schema, depth)
}

func (a *API) members(prefix string, s *huma.Schema, depth int) []fieldView {
	s = a.resolve(s)
	if s == nil || depth > maxShown {
		return nil
	}
	if s.Type == huma.TypeArray {
		return a.members(prefix+"[]", s.Items, depth+1)
	}
	var all []fieldView
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		member := a.resolve(s.Properties[name])
		full := strings.TrimPrefix(prefix+"."+name, ".")
		all = append(all, fieldView{
			Name:     full,
			Type:     typeOf(member),
			Says:     says(s.Properties[name]),
			Required: slices.Contains(s.Required, name),
		})
		all = append(all, a.members(full, member, depth+1)...)
	}
	return all
}

func (a *API) resolve(s *huma.Schema) *huma.Schema {
	if s == nil || s.Ref == "" {
		return s
	}
	return a.huma.OpenAPI().Components.Schemas.SchemaFromRef(s.Ref)
}

// typeOf is a schema's type in a word or two.
func typeOf(s *huma.Schema) string {
	switch {
	case s == nil:
		return "any"
	case s.Type == huma.TypeArray:
		return "list"
	case s.Type == "":
		return "any"
	case s.Format != "":
		return s.Type + ", " + s.Format
	}
	return s.Type
}

// says is a schema's description and its bounds.
func says(s *huma.Schema) string {
	if s == nil {
		return ""
	}
	parts := []string{s.Description}
	if len(s.Enum) > 0 {
		var values []string
		for _, v := range s.Enum {
			values = append(values, fmt.Sprint(v))
		}
		parts = append(parts, "One of "+strings.Join(values, ", ")+".")
	}
	parts = append(
		parts,
		bounds("Length", s.MinLength, s.MaxLength),
		bounds("Items", s.MinItems, s.MaxItems),
		bounds("Value", s.Minimum, s.Maximum),
	)
	if s.Default != nil {
		parts = append(parts, fmt.Sprintf("Default %v.", s.Default))
	}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " ")
}

func bounds[N int | float64](what string, low, high *N) string {
	switch {
	case low != nil && high != nil:
		return fmt.Sprintf("%s %v to %v.", what, *low, *high)
	case low != nil:
		return fmt.Sprintf("%s at least %v.", what, *low)
	case high != nil:
		return fmt.Sprintf("%s at most %v.", what, *high)
	}
	return ""
}
