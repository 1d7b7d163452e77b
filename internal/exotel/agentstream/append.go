package agentstream

// AppendMedia appends a media message in its minimal form, the one that every version of Exotel takes.
func AppendMedia(dst, streamSID, payloadBase64 []byte) []byte {
	dst = append(dst, `{"event":"media","stream_sid":`...)
	dst = appendString(dst, streamSID)
	dst = append(dst, `,"media":{"payload":"`...)
	dst = append(dst, payloadBase64...)
	return append(dst, `"}}`...)
}

// AppendMark appends a mark: Exotel sends it back when the audio before it was played.
func AppendMark(dst, streamSID, name []byte) []byte {
	dst = append(dst, `{"event":"mark","stream_sid":`...)
	dst = appendString(dst, streamSID)
	dst = append(dst, `,"mark":{"name":`...)
	dst = appendString(dst, name)
	return append(dst, `}}`...)
}

// AppendClear appends a clear: Exotel drops the audio that it has not played yet.
func AppendClear(dst, streamSID []byte) []byte {
	dst = append(dst, `{"event":"clear","stream_sid":`...)
	dst = appendString(dst, streamSID)
	return append(dst, '}')
}

// appendString appends text as a JSON string.
func appendString(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, b := range text {
		switch {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		default:
			dst = append(dst, b)
		}
	}
	return append(dst, '"')
}
