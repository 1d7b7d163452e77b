package exotelsim

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
)

// object is a record with its fields in Exotel's order, which neither a map nor the same struct for JSON and XML keeps.
type object []member

// member of an object: a string, a number, nil, an object or a list.
type member struct {
	name  string
	value any
}

// number is written as it is, without quotes.
type number string

// list of objects. In JSON each is wrapped in an object of its own if Exotel does that; in XML each is an element.
type list struct {
	item    string
	wrapped bool
	objects []object
}

// MarshalJSON keeps the order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", m.name, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// MarshalJSON writes the digits.
func (n number) MarshalJSON() ([]byte, error) { return []byte(n), nil }

// MarshalJSON writes an array, never null.
func (l list) MarshalJSON() ([]byte, error) {
	items := make([]object, len(l.objects))
	for i, o := range l.objects {
		items[i] = o
		if l.wrapped {
			items[i] = object{{l.item, o}}
		}
	}
	return json.Marshal(items)
}

// writeXML writes a value as elements; nil as an empty one.
func writeXML(b *bytes.Buffer, name string, value any) {
	fmt.Fprintf(b, "<%s>", name)
	switch v := value.(type) {
	case nil:
	case object:
		for _, m := range v {
			writeXML(b, m.name, m.value)
		}
	case list:
		for _, o := range v.objects {
			writeXML(b, v.item, o)
		}
	default:
		_ = xml.EscapeText(b, fmt.Append(nil, v)) // a buffer never fails
	}
	fmt.Fprintf(b, "</%s>", name)
}

// respond writes an answer as JSON if the path asked for it, else as XML, which is Exotel's default.
func respond(w http.ResponseWriter, r *http.Request, status int, answer object) {
	var b bytes.Buffer
	if strings.HasSuffix(r.URL.Path, ".json") {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(&b).Encode(answer) // made of strings and digits
	} else {
		w.Header().Set("Content-Type", "application/xml")
		b.WriteString(xml.Header)
		writeXML(&b, "TwilioResponse", answer)
	}
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}
