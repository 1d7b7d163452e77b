package eventview

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/reason"
)

func TestRedact(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"nothing": {
			"CallSid=c1&Status=completed&Legs[0][Status]=busy",
			"CallSid=c1&Status=completed&Legs[0][Status]=busy",
		},
		"form": {"token=topsecret&CallSid=c1", "token=redacted&CallSid=c1"},
		"form, other spelling": {
			"x[Auth-Token]=topsecret&api_key=topsecret",
			"x[Auth-Token]=redacted&api_key=redacted",
		},
		"form, name escaped":  {"data%5Btoken%5D=topsecret&a=b", "data%5Btoken%5D=redacted&a=b"},
		"form, value escaped": {"password=top%26secret%20topsecret&a=b", "password=redacted&a=b"},
		"JSON":                {`{"a":"b", "secret" : "topsecret", "n":1}`, `{"a":"b", "secret" : "redacted", "n":1}`},
		"JSON, a number":      {`{"token":123456,"n":1}`, `{"token":redacted,"n":1}`},
		"JSON in a string":    {`{"Stream":"{\"token\":\"topsecret\",\"n\":1}"}`, `{"Stream":"{\"token\":\"redacted"}`},
		"JSON, any text": {
			`{"a":1,"password":"top&secret \" topsecret","n":1}`,
			`{"a":1,"password":"redacted","n":1}`,
		},
		"JSON, a list":  {`{"tokens": ["topsecret"],"n":1}`, `{"tokens": ["redacted"],"n":1}`},
		"JSON, nothing": {`{"token":null,"n":1}`, `{"token":redacted,"n":1}`},
		"form, spaces":  {"secret=top topsecret\\topsecret&a=b", "secret=redacted&a=b"},
		"multipart, any text": {
			"name=\"token\"\r\n\r\ntop&\"secret\"\r\ntopsecret\r\n--x\r\nname=\"a\"\r\n\r\nb",
			"name=\"token\"\r\n\r\nredacted\r\n--x\r\nname=\"a\"\r\n\r\nb",
		},
		"multipart, cut": {"name=\"token\"\r\n\r\ntopsecret", "name=\"token\"\r\n\r\nredacted"},
		"multipart": {"--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\ntopsecret\r\n--x\r\n",
			"--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\nredacted\r\n--x\r\n"},
		"multipart, typed": {
			"name=\"token\"\r\nContent-Type: text/plain\r\n\r\ntopsecret\r\n--x--",
			"name=\"token\"\r\nContent-Type: text/plain\r\n\r\nredacted\r\n--x--",
		},
		"presigned URL": {`{"RecordingUrl":"https://s3.example.com/a.mp3?X-Amz-Signature=topsecret&x=y"}`,
			`{"RecordingUrl":"https://s3.example.com/a.mp3?X-Amz-Signature=redacted&x=y"}`},
		"presigned, escaped": {"RecordingUrl=https%3A%2F%2Fs3%2Fa%3FX-Amz-Security-Token%3Dtopsecret%26x%3Dy&a=b",
			"RecordingUrl=https%3A%2F%2Fs3%2Fa%3FX-Amz-Security-Token%3Dredacted&a=b"},
		"URL with credentials": {
			"StreamUrl=wss://key:topsecret@bot.example.com/x",
			"StreamUrl=wss://redacted@bot.example.com/x",
		},
		"an @ in a password": {"wss://key:top@topsecret@bot.example.com/a@b", "wss://redacted@bot.example.com/a@b"},
		"escaped credentials": {
			"StreamUrl=wss%3A%2F%2Fkey%3Atopsecret%40bot.example.com",
			"StreamUrl=wss%3A%2F%2Fredacted%40bot.example.com",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, redact(tc.in)); diff != "" {
				t.Errorf("redacted (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAdvice verifies that each dead reason has advice, that nothing else has, and that an unknown reason gets a
// default.
func TestAdvice(t *testing.T) {
	for _, r := range reason.Dead() {
		if advice[r] == "" {
			t.Errorf("nobody is told what to do about %s", r)
		}
	}
	if len(advice) != len(reason.Dead()) || adviceOn("a_reason_of_tomorrow") == "" {
		t.Errorf("%d pieces of advice on %d reasons", len(advice), len(reason.Dead()))
	}
}
