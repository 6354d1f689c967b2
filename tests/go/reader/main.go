// A server that tells what it reads: for each whole request a line of JSON on standard output. tests/http/peers.py
// compares that with what our own connection reads of the same bytes.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
)

type request struct {
	Port   string `json:"port"`
	Method string `json:"method"`
	Body   []byte `json:"body"`
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	var lock sync.Mutex
	lines := json.NewEncoder(os.Stdout)
	handler := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		_, port, _ := net.SplitHostPort(r.RemoteAddr)
		lock.Lock()
		lines.Encode(request{port, r.Method, body})
		lock.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}
	log.SetOutput(io.Discard)
	// Go answers OPTIONS * by itself; then the handler would not see it.
	server := http.Server{Handler: http.HandlerFunc(handler), DisableGeneralOptionsHandler: true}
	log.Fatal(server.Serve(listener))
}
