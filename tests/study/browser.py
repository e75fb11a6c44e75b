"""A headless Chromium for tests, driven over a pipe by the DevTools protocol: nothing but the browser is needed."""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, (
    'chromium', 'chromium-browser', 'chromium-headless-shell', 'google-chrome', 'google-chrome-stable'))), None)
# The browser reads commands from file 3 and writes answers to file 4.
START = ('import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); '
         'os.execv(sys.argv[3], sys.argv[3:])')
CODES = {'Enter': 13, 'Space': 32, 'Tab': 9, 'ArrowLeft': 37, 'ArrowUp': 38, 'ArrowRight': 39, 'ArrowDown': 40}


class Browser:
    """One page in a browser of its own; what it complains of and what it asks from outside is kept."""

    def __init__(self, folder: pathlib.Path):
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, '-c', START, str(commands), str(answers), PROGRAM, '--headless=new', '--no-sandbox',
             '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--remote-debugging-pipe',
             f'--user-data-dir={folder}', 'about:blank'],
            pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(answers)
        self._rest, self._number, self._session = b'', 0, None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self._session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for part in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{part}.enable')

    def close(self) -> None:
        """Ends the browser."""
        os.close(self._write)  # it ends when its commands do
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Sends one command and waits for its answer."""
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': arguments}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._next()
            if answer.get('id') == self._number:
                assert 'error' not in answer, (method, answer)
                return answer['result']

    def _next(self):
        """One message; events are noted down on the way."""
        while b'\0' not in self._rest:
            more = os.read(self._read, 1 << 20)
            assert more, 'the browser has ended'
            self._rest += more
        text, _, self._rest = self._rest.partition(b'\0')
        message = json.loads(text)
        what, about = message.get('method'), message.get('params')
        if what in ('Runtime.exceptionThrown', 'Runtime.consoleAPICalled', 'Log.entryAdded'):
            self.complaints.append(json.dumps(about))
        elif what == 'Network.requestWillBeSent':
            self.requests.append(about['request']['url'])
        return message

    def open(self, path: pathlib.Path) -> float:
        """Opens a file; returns the seconds until it is loaded, its script has run and it has been laid out."""
        begin = time.perf_counter()
        self.call('Page.navigate', url=path.as_uri())
        self.wait('document.readyState === "complete"')
        self.run('document.body.getBoundingClientRect().height')
        return time.perf_counter() - begin

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def wait(self, expression: str) -> None:
        """Waits until an expression is true; ten seconds at most."""
        end = time.perf_counter() + 10
        while not self.run(f'Boolean({expression})'):
            assert time.perf_counter() < end, expression
            time.sleep(0.02)

    def _middle(self, selector):
        return self.run(f'''(() => {{const found = document.querySelector({json.dumps(selector)});
            found.scrollIntoView({{block: 'center', inline: 'center', behavior: 'instant'}});
            const box = found.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]}})()''')

    def point(self, selector: str) -> None:
        """Moves the mouse onto an element."""
        x, y = self._middle(selector)
        self.call('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)

    def click(self, selector: str) -> None:
        """Clicks an element with the mouse."""
        x, y = self._middle(selector)
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def focus(self, selector: str) -> None:
        """Gives an element the keyboard."""
        self.run(f'document.querySelector({json.dumps(selector)}).focus()')

    def press(self, key: str) -> None:
        """Presses and releases a key."""
        text = {'Enter': '\r', 'Space': ' '}.get(key, '')
        about = {'key': ' ' if key == 'Space' else key, 'code': key, 'windowsVirtualKeyCode': CODES[key]}
        self.call('Input.dispatchKeyEvent', type='keyDown' if text else 'rawKeyDown', text=text, **about)
        self.call('Input.dispatchKeyEvent', type='keyUp', **about)

    def picture(self, path: pathlib.Path, width: int, height: int = 0, dark: bool = False, paper: bool = False) -> None:
        """Takes a picture of the page at a width, as high as it is if no height is given."""
        self.call('Emulation.setEmulatedMedia', media='print' if paper else 'screen', features=[
            {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height or 800, deviceScaleFactor=1,
                  mobile=False)
        whole = height or self.run('document.documentElement.scrollHeight')
        found = self.call('Page.captureScreenshot', captureBeyondViewport=True,
                          clip={'x': 0, 'y': 0, 'width': width, 'height': whole, 'scale': 1})
        path.write_bytes(base64.b64decode(found['data']))
