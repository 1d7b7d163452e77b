package objectstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

// errorBody is the body of an error answer.
type errorBody struct {
	Code, Message, Region, Endpoint, ServerTime string

	RequestID string `xml:"RequestId"`
}

// readError reads the body of an error answer. It reports false if S3 did not write it. Some services put the error
// into an envelope, as Amazon's other services do.
func readError(data []byte) (errorBody, bool) {
	var body struct {
		XMLName xml.Name
		errorBody
		Error errorBody
	}
	decoder := xml.NewDecoder(bytes.NewReader(toUTF8(data)))
	decoder.CharsetReader = charset
	if decoder.Decode(&body) != nil {
		return errorBody{}, false
	}
	e := body.errorBody
	switch body.XMLName.Local {
	case "Error":
	case "ErrorResponse":
		e = body.Error
		e.RequestID = cmp.Or(e.RequestID, body.RequestID)
	default:
		return errorBody{}, false
	}
	return e, cleanCode(e.Code) != ""
}

// charset reads the encodings of XML that Go's decoder does not know and that stores and proxies declare. Each byte of
// the others is the rune with its number.
func charset(name string, in io.Reader) (io.Reader, error) {
	switch strings.ToLower(name) {
	case "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252":
		data, err := io.ReadAll(in) // an error answer has its bounds
		if err != nil {
			return nil, err
		}
		runes := make([]rune, len(data))
		for i, b := range data {
			runes[i] = rune(b)
		}
		return strings.NewReader(string(runes)), nil
	case "utf-16": // toUTF8 has decoded it
		return in, nil
	}
	return nil, fmt.Errorf("the encoding %.20q is not read", name)
}

// toUTF8 decodes UTF-16 with a byte order mark, and removes that of UTF-8.
func toUTF8(data []byte) []byte {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return data[3:]
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		order = binary.LittleEndian
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		order = binary.BigEndian
	default:
		return data
	}
	units := make([]uint16, 0, len(data)/2)
	for i := 2; i+1 < len(data); i += 2 {
		units = append(units, order.Uint16(data[i:]))
	}
	return []byte(string(utf16.Decode(units)))
}
