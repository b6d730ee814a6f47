#!/usr/bin/env python3
"""A login through an OpenID provider in a real browser: what only a browser decides (SameSite cookies after the way back from
another site, the policy on forms at logout).

    python3 tests/browser/test_login.py http://127.0.0.1:PORT

The provider is oidc-provider-mock, where alice may enter; `tests/it/login.rs` starts both.
"""

import sys
import unittest

from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.ui import WebDriverWait

from test_index import InBrowser

URL = ""


class Login(InBrowser):
    def until(self, condition):
        return WebDriverWait(self.d, 300).until(condition)

    def click(self, selector):
        self.until(expected.element_to_be_clickable((By.CSS_SELECTOR, selector))).click()

    def test_in_and_out_through_the_provider(self):
        self.d.get(URL + "/parked")
        self.assertFalse(self.d.find_elements(By.NAME, "token"), "there is no token here")
        self.click('a[href^="/login/start"]')
        self.click('button[name="sub"][value="alice"]')
        self.until(expected.url_to_be(URL + "/parked"))
        self.assertIn("alice", self.d.find_element(By.CSS_SELECTOR, "header form").text)
        kept = {cookie["name"]: cookie for cookie in self.d.get_cookies()}
        self.assertTrue(kept["greffier"]["httpOnly"])
        self.assertEqual(kept["greffier"]["sameSite"], "Strict")
        self.assertNotIn("greffier-login", kept)

        self.click('form[action="/logout"] button')
        self.until(expected.url_contains("/oauth2/end_session"))
        self.click('form button[type="submit"]')
        self.until(expected.url_to_be(URL + "/login"))
        self.d.add_cookie(kept["greffier"])
        self.d.get(URL + "/parked")
        self.assertTrue(self.d.find_elements(By.CSS_SELECTOR, 'a[href^="/login/start"]'), "the session is over, cookie or not")


if __name__ == "__main__":
    URL = sys.argv.pop(1).rstrip("/")
    unittest.main()
