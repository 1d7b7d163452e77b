package agentstream

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseStart(t *testing.T) {
	whole := StartInfo{
		StreamSID:  "s",
		CallSID:    "c",
		AccountSID: "a",
		From:       "+919876543210",
		To:         "+911234567890",
		Custom:     map[string]string{"k": "v", "n": "5"},
		Encoding:   "raw",
		SampleRate: 8000,
		BitRate:    "128",
	}
	for name, tc := range map[string]struct {
		raw     string
		want    StartInfo
		wantErr string
	}{
		"as documented": {
			raw: `{"event":"start","sequence_number":1,"stream_sid":"s","start":{"stream_sid":"s","call_sid":"c","account_sid":"a",
			"from":"+919876543210","to":"+911234567890","custom_parameters":{"k":"v","n":5},
			"media_format":{"encoding":"raw","sample_rate":"8000","bit_rate":"128"}}}`,
			want: whole,
		},
		"in camel case, unquoted": {
			raw: `{"event":"start","streamSid":"s","start":{"callSid":"c","accountSid":"a",
			"from":"+919876543210","to":"+911234567890","customParameters":{"k":"v","n":5},
			"mediaFormat":{"encoding":"raw","sampleRate":8000,"bitRate":128}}}`,
			want: whole,
		},
		"named inside only": {raw: `{"event":"start","start":{"streamSid":"s"}}`, want: StartInfo{StreamSID: "s"}},
		"named outside first": {
			raw:  `{"event":"start","stream_sid":"s","start":{"stream_sid":"other"}}`,
			want: StartInfo{StreamSID: "s"},
		},
		"a unit": {
			raw:  `{"event":"start","start":{"media_format":{"sample_rate":" 16000 Hz"}}}`,
			want: StartInfo{SampleRate: 16000},
		},
		"a rate that is not a number": {raw: `{"event":"start","start":{"media_format":{"sample_rate":"fast"}}}`},
		"a negative rate":             {raw: `{"event":"start","start":{"media_format":{"sample_rate":-8000}}}`},
		"a rate beyond audio":         {raw: `{"event":"start","start":{"media_format":{"sample_rate":1e9}}}`},
		"only a unit":                 {raw: `{"event":"start","start":{"media_format":{"sample_rate":"Hz"}}}`},
		"nothing told":                {raw: `{"event":"start"}`},
		"wrong types":                 {raw: `{"event":"start","start":[],"stream_sid":{}}`},
		"parameters in parameters are left out": {
			raw:  `{"event":"start","start":{"custom_parameters":{"a":{"b":1},"k":"v"}}}`,
			want: StartInfo{Custom: map[string]string{"k": "v"}},
		},
		"another event": {raw: `{"event":"media"}`, wantErr: "not a start message"},
		"not JSON":      {raw: `start`, wantErr: "not a JSON object"},
		"null":          {raw: `null`, wantErr: "not a JSON object"},
		"bad UTF-8":     {raw: "{\"event\":\"start\",\"stream_sid\":\"\xff\"}", wantErr: "not a JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseStart([]byte(tc.raw))
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("got %v, want %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseStartBoundsParameters(t *testing.T) {
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf(`"k%d":"v"`, i))
	}
	got, err := ParseStart([]byte(`{"event":"start","start":{"custom_parameters":{` + strings.Join(many, ",") + `}}}`))
	if err != nil || len(got.Custom) != maxCustom {
		t.Errorf("kept %d parameters, %v", len(got.Custom), err)
	}
}
