package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/api/apitest"
	"github.com/caly-dev/caly/dataplane/problem"
	"github.com/caly-dev/caly/dataplane/server"
)

func post(r *apitest.Rig, body string, headers ...string) apitest.Answer {
	req := httptest.NewRequest(http.MethodPost, "/api/auth/things", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Caly-Tenant", r.Tenant.ID)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if req.Header.Del(name); value != "" {
			req.Header.Set(name, value)
		}
	}
	return r.Send(req)
}

// wrong are the faults of some parts: path, message, path, message.
func wrong(pairs ...string) (all []problem.FieldError) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, problem.FieldError{Path: pairs[i], Message: pairs[i+1]})
	}
	return all
}

func nested(depth int) string {
	return `{"name":"ab","x":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`
}

// TestBody verifies that bodies that decoders read in different ways are rejected. Each error names the place of the
// fault.
func TestBody(t *testing.T) {
	for name, tc := range map[string]struct {
		body       string
		wantStatus int
		wantCode   string
		wantFields []problem.FieldError
	}{
		"no body":          {"", 400, "validation", nil},
		"white space":      {" \n", 400, "validation", wrong("", "it ends before the JSON does")},
		"no JSON":          {"name=ab", 400, "validation", wrong("", "not JSON, at byte 1")},
		"broken off":       {`{"name":"a`, 400, "validation", wrong("", "it ends before the JSON does")},
		"null":             {"null", 400, "validation", wrong("", "expected object")},
		"a list":           {"[]", 400, "validation", wrong("", "expected object")},
		"an unknown field": {`{"name":"ab","admin":true}`, 400, "validation", wrong("/admin", "unexpected property")},
		"another case": {
			`{"Name":"ab"}`,
			400,
			"validation",
			wrong("/name", "required, and missing", "/Name", "unexpected property"),
		},
		"a name given twice": {`{"name":"ab","name":"cd"}`, 400, "validation", wrong("/name", "given twice")},
		"twice, one escaped": {`{"name":"ab","n\u0061me":"cd"}`, 400, "validation", wrong("/name", "given twice")},
		"twice, far inside": {
			`{"name":"ab","notes":{"a":"1","a":"2"}}`,
			400,
			"validation",
			wrong("/notes/a", "given twice"),
		},
		"no UTF-8":          {"{\"name\":\"a\xff\"}", 400, "validation", wrong("/name", "not UTF-8, at byte 10")},
		"half a surrogate":  {`{"name":"a\ud800"}`, 400, "validation", wrong("/name", "not JSON, at byte 10")},
		"a byte order mark": {"\ufeff{\"name\":\"ab\"}", 400, "validation", wrong("", "not JSON, at byte 0")},
		"more after the end": {
			`{"name":"ab"}{}`,
			400,
			"validation",
			wrong("", "there is more after the end of the JSON, before byte 14"),
		},
		"a comma at the end": {`{"name":"ab",}`, 400, "validation", wrong("", "not JSON, at byte 12")},
		"a comment":          {`{"name":"ab"/**/}`, 400, "validation", wrong("", "not JSON, at byte 12")},
		"NaN":                {`{"count":NaN}`, 400, "validation", wrong("/count", "not JSON, at byte 9")},
		"too deep": {
			nested(17),
			400,
			"validation",
			wrong("/x"+strings.Repeat("/0", 15), "nested deeper than 16"),
		},
		"as deep as may be": {nested(16), 400, "validation", wrong("/x", "unexpected property")},
		"many values": {`{"x":[` + strings.Repeat("0,", 2050) + `0]}`, 400, "validation", wrong("",
			"it has more than 2048 names, values and brackets")},
		"beyond an integer": {`{"name":"ab","count":1e400}`, 400, "validation", wrong("",
			`what is at "/count" does not fit`)},
		"no integer":      {`{"name":"ab","count":1.5}`, 400, "validation", wrong("/count", "expected integer")},
		"another type":    {`{"name":1}`, 400, "validation", wrong("/name", "expected string")},
		"null for a text": {`{"name":null}`, 400, "validation", wrong("/name", "expected string")},
		"too long": {`{"name":"` + strings.Repeat("a", 21) + `"}`, 400, "validation", wrong("/name",
			"expected length <= 20")},
		"several faults": {`{"name":"a","count":10,"kind":"huge","parts":[{"size":1},{}]}`, 400, "validation",
			wrong("/count", "expected number <= 9",
				"/kind", `expected value to be one of "small, large"`, "/name", "expected length >= 2",
				"/parts/1/size", "required, and missing")},
		"good": {
			`{"name":"ab","count":9,"kind":"small","parts":[{"size":1}],"notes":{"a":"b"}}`,
			201,
			"",
			nil,
		},
		"good, with air":     {" {\"name\" : \"ab\"}\n", 201, "", nil},
		"as large as may be": {`{"name":"ab"` + strings.Repeat(" ", 16<<10-13) + "}", 201, "", nil},
		"too large":          {`{"name":"ab"` + strings.Repeat(" ", 16<<10-12) + "}", 413, "payload_too_large", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := post(newRig(), tc.body)
			if got.Status != tc.wantStatus || got.Code() != tc.wantCode {
				t.Fatalf("answered %d %q: %s", got.Status, got.Code(), got.Body)
			}
			var p problem.Problem
			got.JSON(t, &p)
			if d := cmp.Diff(tc.wantFields, p.Fields); d != "" {
				t.Errorf("fields (-want +got):\n%s", d)
			}
		})
	}
}

func TestMediaType(t *testing.T) {
	for name, tc := range map[string]struct {
		headers []string
		want    int
	}{
		"none":                  {[]string{"Content-Type"}, 415},
		"a form":                {[]string{"Content-Type: application/x-www-form-urlencoded"}, 415},
		"text, as a page may":   {[]string{"Content-Type: text/plain"}, 415},
		"a kind of JSON":        {[]string{"Content-Type: application/merge-patch+json"}, 415},
		"nonsense":              {[]string{"Content-Type: ;"}, 415},
		"another charset":       {[]string{"Content-Type: application/json; charset=utf-16"}, 415},
		"an unknown parameter":  {[]string{"Content-Type: application/json; version=2"}, 415},
		"compressed":            {[]string{"Content-Encoding: gzip"}, 415},
		"JSON":                  {nil, 201},
		"JSON with its charset": {[]string{"Content-Type: Application/JSON; charset=UTF-8"}, 201},
		"JSON, not compressed":  {[]string{"Content-Encoding: identity"}, 201},
		"another answer asked":  {[]string{"Accept: text/html"}, 201},
		"nonsense asked":        {[]string{"Accept: ;;q=x"}, 201},
	} {
		t.Run(name, func(t *testing.T) {
			answer := post(newRig(), `{"name":"ab"}`, tc.headers...)
			if answer.Status != tc.want || tc.want == 415 && answer.Code() != "unsupported_media_type" {
				t.Errorf("answered %d, want %d: %s", answer.Status, tc.want, answer.Body)
			}
		})
	}
}

// TestQuery checks that query parameters have bounds as bodies have, and that an unknown parameter is refused.
func TestQuery(t *testing.T) {
	for name, tc := range map[string]struct {
		target     string
		wantStatus int
		wantFields []problem.FieldError
	}{
		"unknown":          {"/api/things/1?limits=5", 400, wrong("limits", "unknown query parameter")},
		"out of bounds":    {"/api/things/1?limit=101", 400, wrong("limit", "expected number <= 100")},
		"no number":        {"/api/things/1?limit=many", 400, wrong("limit", "invalid integer")},
		"a long path part": {"/api/things/123456789", 400, wrong("id", "expected length <= 8")},
		"good":             {"/api/things/1?limit=100", 200, nil},
	} {
		t.Run(name, func(t *testing.T) {
			answer := newRig().Do(t, "GET", tc.target, "good", nil)
			var p problem.Problem
			if answer.JSON(t, &p); answer.Status != tc.wantStatus {
				t.Fatalf("answered %d: %s", answer.Status, answer.Body)
			}
			if d := cmp.Diff(tc.wantFields, p.Fields); d != "" {
				t.Errorf("fields (-want +got):\n%s", d)
			}
		})
	}
}

// TestNothingSentIsQuoted verifies that the answer to a faulty body quotes no value of it, because a value may be a
// password.
func TestNothingSentIsQuoted(t *testing.T) {
	const canary = "hunter2-canary"
	for name, body := range map[string]string{
		"too long":        `{"name":"` + canary + strings.Repeat("x", 20) + `"}`,
		"no address":      `{"name":"ab","email":"` + canary + `"}`,
		"an odd address":  `{"name":"ab","email":"a@b, ` + canary + `@c"}`,
		"none of a few":   `{"name":"ab","kind":"` + canary + `"}`,
		"another type":    `{"name":["` + canary + `"]}`,
		"no JSON behind":  `{"name":"` + canary + `"} ` + canary,
		"an open text":    `{"name":"` + canary,
		"an odd escape":   `{"name":"` + canary + `\x"}`,
		"a second time":   `{"name":"` + canary + `","name":"` + canary + `"}`,
		"an odd number":   `{"name":"ab","count":"` + canary + `"}`,
		"in a list":       `{"name":"ab","parts":["` + canary + `"]}`,
		"an unknown name": `{"name":"ab","extra":"` + canary + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if answer := post(newRig(), body); answer.Status != 400 || strings.Contains(string(answer.Body), canary) ||
				strings.Contains(fmt.Sprint(answer.Header), canary) {
				t.Errorf("answered %d %v %s", answer.Status, answer.Header, answer.Body)
			}
		})
	}
}

// TestAnswerShape verifies that a nil list becomes an empty JSON list.
func TestAnswerShape(t *testing.T) {
	answer := post(newRig(), `{"name":"<ab>"}`)
	var got map[string]any
	answer.JSON(t, &got)
	want := map[string]any{"id": "1", "thing": map[string]any{"name": "<ab>"}, "tags": []any{}}
	if d := cmp.Diff(want, got); d != "" || answer.Header.Get("Location") != "/api/things/1" ||
		answer.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v (-want +got):\n%s", answer.Header, d)
	}
}

// serving is a rig behind a real server, since recorders have no connections.
func serving(t *testing.T, r *apitest.Rig) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(server.Middleware(r.API, quiet))
	t.Cleanup(srv.Close)
	return srv
}

// TestBodyThatIsRefusedUnread verifies that the answer does not wait for a body that is not read. The connection is
// closed afterwards.
func TestBodyThatIsRefusedUnread(t *testing.T) {
	srv := serving(t, newRig())
	for name, head := range map[string]string{
		"no tenant":    "POST /api/auth/things HTTP/1.1\r\nContent-Type: application/json\r\n",
		"no such path": "POST /api/nothing HTTP/1.1\r\n",
		"no media":     "POST /t/acme/support/api/auth/things HTTP/1.1\r\n",
		"too large": "POST /t/acme/support/api/auth/things HTTP/1.1\r\nContent-Type: application/json\r\n" +
			"X-Large: 1\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			size := 100
			sent := "{"
			if strings.Contains(head, "X-Large") {
				size, sent = 1<<20, strings.Repeat(" ", 17<<10)
			}
			_, _ = fmt.Fprintf(conn, "%sHost: x\r\nContent-Length: %d\r\n\r\n%s", head, size, sent)
			_ = conn.SetReadDeadline(time.Now().Add(3 * time.Second)) // less than a body may take
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			if _ = resp.Body.Close(); resp.StatusCode < 400 || !resp.Close {
				t.Errorf("answered %s, close %v", resp.Status, resp.Close)
			}
		})
	}
}

// TestBodyThatBreaksOff is told so, as far as anybody listens.
func TestBodyThatBreaksOff(t *testing.T) {
	srv := serving(t, newRig())
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(
		conn,
		"POST /t/acme/support/api/auth/things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
			"Content-Length: 99\r\n\r\n{",
	)
	_ = conn.(*net.TCPConn).CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var p problem.Problem
	if _ = json.NewDecoder(resp.Body).Decode(&p); resp.StatusCode != http.StatusBadRequest ||
		p.Code != problem.Validation {
		t.Errorf("answered %s %+v", resp.Status, p)
	}
}
