package apitest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// object is a JSON object.
type object = map[string]any

// methods that a path item may have.
var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}

// everywhere are the errors that any operation may answer with.
var everywhere = []string{"400", "500", "503", "504"}

// Faults of an OpenAPI document: what the specification asks for, as far as it can be told without a schema, and what we ask for.
func Faults(document []byte) []string {
	c := &checker{ids: map[string]bool{}}
	if err := json.Unmarshal(document, &c.doc); err != nil {
		return []string{"it is not JSON: " + err.Error()}
	}
	if version, _ := c.doc["openapi"].(string); !strings.HasPrefix(version, "3.1.") {
		c.fault("it is of version %q", version)
	}
	c.references("#", c.doc)
	paths := child(c.doc, "paths")
	if len(paths) == 0 {
		c.fault("it has no paths")
	}
	for path, item := range paths {
		members, _ := item.(object)
		for method, op := range members {
			if operation, ok := op.(object); ok && slices.Contains(methods, method) {
				c.operation(strings.ToUpper(method)+" "+path, path, operation)
			}
		}
	}
	slices.Sort(c.faults)
	return c.faults
}

type checker struct {
	doc    object
	ids    map[string]bool
	faults []string
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func child(o object, name string) object {
	c, _ := o[name].(object)
	return c
}

// references follows every $ref.
func (c *checker) references(at string, v any) {
	switch v := v.(type) {
	case object:
		if ref, ok := v["$ref"].(string); ok && c.resolve(ref) == nil {
			c.fault("%s refers to %s, which is not there", at, ref)
		}
		for name, member := range v {
			c.references(at+"/"+name, member)
		}
	case []any:
		for i, member := range v {
			c.references(fmt.Sprint(at, "/", i), member)
		}
	}
}

func (c *checker) resolve(ref string) object {
	path, ok := strings.CutPrefix(ref, "#/")
	o := c.doc
	for part := range strings.SplitSeq(path, "/") {
		o = child(o, part)
	}
	if !ok {
		return nil
	}
	return o
}

func (c *checker) deref(v any) object {
	o, _ := v.(object)
	if ref, ok := o["$ref"].(string); ok {
		return c.resolve(ref)
	}
	return o
}

func (c *checker) operation(name, path string, op object) {
	id, _ := op["operationId"].(string)
	if id == "" || c.ids[id] {
		c.fault("%s has no operationId of its own: %q", name, id)
	}
	c.ids[id] = true
	if summary, _ := op["summary"].(string); summary == "" {
		c.fault("%s has no summary", name)
	}
	c.tags(name, op)
	c.security(name, op)
	c.parameters(name, path, op)
	c.responses(name, child(op, "responses"))
}

func (c *checker) tags(name string, op object) {
	tags, _ := op["tags"].([]any)
	declared, _ := c.doc["tags"].([]any)
	for _, tag := range tags {
		if !slices.ContainsFunc(declared, func(d any) bool { o, _ := d.(object); return o["name"] == tag }) {
			c.fault("%s has the tag %v, which is not declared", name, tag)
		}
	}
	if len(tags) == 0 {
		c.fault("%s has no tag", name)
	}
}

func (c *checker) security(name string, op object) {
	wanted, ok := op["security"].([]any)
	if !ok {
		c.fault("%s does not say who may call it", name)
	}
	schemes := child(child(c.doc, "components"), "securitySchemes")
	for _, w := range wanted {
		for scheme := range c.deref(w) {
			if schemes[scheme] == nil {
				c.fault("%s wants the security scheme %s, which is not declared", name, scheme)
			}
		}
	}
	if len(wanted) > 0 && child(op, "responses")["401"] == nil {
		c.fault("%s wants a token and has no 401", name)
	}
}

var inBraces = regexp.MustCompile(`\{([^}]+)\}`)

func (c *checker) parameters(name, path string, op object) {
	var declared []string
	list, _ := op["parameters"].([]any)
	for _, p := range list {
		o := c.deref(p)
		if o["in"] == "path" {
			declared = append(declared, fmt.Sprint(o["name"]))
		}
		if child(o, "schema") == nil {
			c.fault("%s has the parameter %v without a schema", name, o["name"])
		}
	}
	var used []string
	for _, m := range inBraces.FindAllStringSubmatch(path, -1) {
		used = append(used, m[1])
	}
	slices.Sort(declared)
	slices.Sort(used)
	if !slices.Equal(declared, used) {
		c.fault("%s declares the path parameters %v", name, declared)
	}
}

func (c *checker) responses(name string, all object) {
	success := false
	for status, r := range all {
		response := c.deref(r)
		if text, _ := response["description"].(string); text == "" {
			c.fault("%s has the response %s without a description", name, status)
		}
		if success = success ||
			status < "300"; status >= "400" &&
			child(response, "content")["application/problem+json"] == nil {
			c.fault("%s has the response %s, which is not a problem", name, status)
		}
	}
	if !success {
		c.fault("%s never succeeds", name)
	}
	for _, status := range everywhere {
		if all[status] == nil {
			c.fault("%s has no response %s", name, status)
		}
	}
}
