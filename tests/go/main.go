// A Go service as BitNexus calls it: checks the caller's token by itself, and can be told to hang, fail, or die.
//
//	GET  /health              200
//	GET  /echo, POST /echo    what arrived: method, path, query, headers, claims, body (base64)
//	POST /binary              the body reversed, same content type
//	GET  /public              200 without a token
//	POST /control             {"mode": "ok|hang|fail|die|garbage|slow", "status": 500, "ms": 1000, "times": 3}
//	GET  /calls               how many calls each path got
//
// Environment: SECRET (HS256), JWKS_URL (EdDSA and RS256), ISSUER, AUDIENCE, LISTEN (default 127.0.0.1:0).
// Prints "listening on ADDRESS" once it serves.
package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

type control struct {
	Mode   string `json:"mode"`
	Status int    `json:"status"`
	Ms     int    `json:"ms"`
	Times  int    `json:"times"`
}

type service struct {
	mutex    sync.Mutex
	now      control
	calls    map[string]int
	verifier *verifier
}

func main() {
	s := &service{calls: map[string]int{}, verifier: newVerifier()}
	mux := http.NewServeMux()
	mux.HandleFunc("/control", s.control)
	mux.HandleFunc("/calls", s.counts)
	mux.HandleFunc("/health", s.counted(func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, map[string]string{"status": "ok"}) }))
	mux.HandleFunc("/public", s.counted(s.troubled(func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, map[string]bool{"public": true}) })))
	mux.HandleFunc("/binary", s.counted(s.troubled(s.authenticated(binary))))
	mux.HandleFunc("/", s.counted(s.troubled(s.authenticated(echo))))

	address := os.Getenv("LISTEN")
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (s *service) counted(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mutex.Lock()
		s.calls[r.URL.Path]++
		s.mutex.Unlock()
		next(w, r)
	}
}

func (s *service) counts(w http.ResponseWriter, _ *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	reply(w, 200, s.calls)
}

func (s *service) control(w http.ResponseWriter, r *http.Request) {
	var told control
	if err := json.NewDecoder(r.Body).Decode(&told); err != nil {
		reply(w, 400, map[string]string{"error": err.Error()})
		return
	}
	s.mutex.Lock()
	s.now = told
	s.mutex.Unlock()
	reply(w, 200, told)
}

// What a call is to suffer; with `times` only so many calls do.
func (s *service) trouble() control {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	now := s.now
	if now.Times > 0 {
		if s.now.Times--; s.now.Times == 0 {
			s.now = control{}
		}
	}
	return now
}

func (s *service) troubled(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		now := s.trouble()
		switch now.Mode {
		case "hang":
			<-r.Context().Done()
			return
		case "slow":
			time.Sleep(time.Duration(now.Ms) * time.Millisecond)
		case "fail":
			status := now.Status
			if status == 0 {
				status = 500
			}
			reply(w, status, map[string]string{"error": "told to fail"})
			return
		case "garbage":
			if hijacker, ok := w.(http.Hijacker); ok {
				if connection, _, err := hijacker.Hijack(); err == nil {
					_, _ = connection.Write([]byte("this is no HTTP\r\n\r\n"))
					_ = connection.Close()
				}
			}
			return
		case "die":
			os.Exit(3)
		}
		next(w, r)
	}
}

func (s *service) authenticated(next func(http.ResponseWriter, *http.Request, map[string]any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !found {
			reply(w, 401, map[string]string{"error": "no token"})
			return
		}
		claims, err := s.verifier.verify(token)
		if err != nil {
			reply(w, 401, map[string]string{"error": err.Error()})
			return
		}
		next(w, r, claims)
	}
}

func echo(w http.ResponseWriter, r *http.Request, claims map[string]any) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		reply(w, 400, map[string]string{"error": err.Error()})
		return
	}
	headers := map[string]string{}
	for name := range r.Header {
		headers[strings.ToLower(name)] = r.Header.Get(name)
	}
	w.Header().Set("X-From-Go", "yes")
	reply(w, 200, map[string]any{
		"method": r.Method, "path": r.URL.Path, "query": r.URL.RawQuery,
		"headers": headers, "claims": claims, "body": base64.StdEncoding.EncodeToString(body),
	})
}

func binary(w http.ResponseWriter, r *http.Request, _ map[string]any) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		reply(w, 400, map[string]string{"error": err.Error()})
		return
	}
	for left, right := 0, len(body)-1; left < right; left, right = left+1, right-1 {
		body[left], body[right] = body[right], body[left]
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	_, _ = w.Write(body)
}
