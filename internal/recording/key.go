package recording

import (
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"text/template"
	"time"
)

// KeyInput is what an object's key is made from.
type KeyInput struct {
	CallSID, RecordingID string
	Queued               time.Time
	// Ext is the file's extension with its dot, such as ".mp3".
	Ext string
}

// keyFields are what a key template may use.
type keyFields struct {
	CallSID, RecordingID, Date string
}

const (
	maxKey = 1024 // bytes, S3's bound
	// dateLayout is that of a template's field Date.
	dateLayout = "2006/01/02"
)

var (
	safeKey       = regexp.MustCompile(`^[A-Za-z0-9!_.*'()/-]+$`)
	plainTemplate = regexp.MustCompile(`^([A-Za-z0-9!_.*'()/-]|\{\{ *\.(CallSID|RecordingID|Date) *\}\})+$`)
)

// ParseKeyTemplate returns an error, with the correction, if a key template cannot be used. A template may hold the
// three fields and characters that are safe in a key, and no other template actions.
func ParseKeyTemplate(s string) error {
	if !plainTemplate.MatchString(s) {
		return errors.New(
			"recordings.keyTemplate may contain {{.CallSID}}, {{.RecordingID}}, {{.Date}}, letters, digits and !_.*'()/- only",
		)
	}
	if !strings.Contains(strings.ReplaceAll(s, " ", ""), "{{.RecordingID}}") {
		return errors.New("recordings.keyTemplate must contain {{.RecordingID}}: one call may have several recordings")
	}
	probe := keyFields{CallSID: "c", RecordingID: "r", Date: "2006/01/02"}
	_, err := expand(s, "ns/name", probe, ".mp3")
	return err
}

// ObjectKey is where a recording's object goes: always the same for the same recording, always below the tenant's prefix.
func ObjectKey(tenantID, template string, in KeyInput) (string, error) {
	ext := in.Ext
	if !regexp.MustCompile(`^\.[a-z0-9]{1,8}$`).MatchString(ext) {
		ext = ".mp3"
	}
	fields := keyFields{in.CallSID, in.RecordingID, in.Queued.UTC().Format(dateLayout)}
	return expand(template, tenantID, fields, ext)
}

// ProbeKey is the key of the object that the check of a tenant's bucket writes and deletes. No key template makes it:
// the key of a recording ends in a file's extension.
func ProbeKey(tenantID string) string { return KeyPrefix(tenantID) + ".caly-probe" }

// DoctorKey is the key of the object that "kubectl caly doctor" writes and deletes. It is another one than that of the
// operator's own check: two checks at the same time would each find what the other wrote.
func DoctorKey(tenantID string) string { return ProbeKey(tenantID) + "-doctor" }

// KeyPrefix is what every object of a tenant begins with.
func KeyPrefix(tenantID string) string { return tenantID + "/" }

func expand(text, tenantID string, fields keyFields, ext string) (string, error) {
	tmpl, err := template.New("key").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", errors.New("recordings.keyTemplate is not a valid Go text/template")
	}
	var b strings.Builder
	if err := tmpl.Execute(io.Writer(&b), fields); err != nil {
		return "", errors.New("recordings.keyTemplate uses a field that is not one of .CallSID, .RecordingID, .Date")
	}
	rest := b.String()
	key := KeyPrefix(tenantID) + rest + ext
	if len(key) > maxKey {
		return "", fmt.Errorf(
			"the object's key has %d bytes and may have %d: shorten recordings.keyTemplate", len(key), maxKey,
		)
	}
	// path.Clean changes whatever has an empty, "." or ".." element.
	if path.Clean("/"+rest) != "/"+rest || !safeKey.MatchString(rest) {
		return "", fmt.Errorf(
			"the object's key %q is not safe: recordings.keyTemplate must not begin or end with '/', nor hold '//' or '..'",
			rest,
		)
	}
	return key, nil
}
