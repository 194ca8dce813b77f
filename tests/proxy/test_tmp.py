import threading, time, socket, random
from tests.proxy.test_refusals import gone_after
def test_x(linked, upstream):
    bad=0
    for i in range(80):
        stopped=threading.Event()
        pause = random.choice([0,0,.001,.005])
        def endless(c,_s, stopped=stopped, pause=pause):
            c.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: x/y\r\n\r\n")
            try:
                while True:
                    c.sendall(b"x"*65536)
                    if pause: time.sleep(pause)
            except OSError: stopped.set()
        upstream.on("/endless", endless)
        n=random.choice([1,20,200]); d=random.choice([0,.05,.12,.3])
        gone_after(linked,"/endless",lambda c:([c.recv(65536) for _ in range(n)],time.sleep(d)))
        t=time.monotonic()
        if not stopped.wait(8): bad+=1; print("NOT STOPPED",i,pause,n,d)
        elif time.monotonic()-t>1: print("late",i,pause,n,d,time.monotonic()-t)
    print("bad",bad)
